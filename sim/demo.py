"""``make demo``: the real agent between a platform and a power board, told live. Exit code 0 only if all went well.

python -m sim.demo [--baud 9600] [--keep]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.cli.show import bar
from agent.protocol.codec import NOT_ASKED, Reply
from agent.protocol.commands import COMMANDS, UPDATE_STATES, RecordsSummary, UpdateReport
from agent.protocol.results import Result, UpdateState
from sim.frames import describe, hexadecimal
from sim.maker import Maker
from sim.site import Happening, Site
from sim.story import Step, put_firmware, story

ONLINE_S = 20.0
UNFORESEEN = (100, 104, 111)  # heartbeats, records and progress come when they come
ALIKE_SHOWN = 3
SETTLE_S = 3.0  # the routine polls seen by then are not shown again
WITH_PROGRESS = (UpdateState.DOWNLOADING, UpdateState.INSTALLING)
_COLORS = {"platform": "36", "pile": "32", "serial": "33", "board": "35", "wrong": "31", "story": "1", "dim": "2"}


@dataclass
class Outcome:
    """What came of a step."""

    step: Step
    replies: list[Reply] = field(default_factory=list)
    reports: list[Reply] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    wrong: str = ""


class Teller:
    """Prints the story, in colours on a terminal."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._in_color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def tell(self, who: str, text: str, color: str = "") -> None:
        at = time.monotonic() - self._began_at
        print(f"{at:7.2f}  {self.colored(f'{who:<9}', color or who)} {text}", flush=True)

    def title(self, text: str) -> None:
        print(f"\n{self.colored(text, 'story')}", flush=True)

    def colored(self, text: str, color: str) -> str:
        code = _COLORS.get(color)
        return f"\x1b[{code}m{text}\x1b[0m" if code and self._in_color else text


class Demo:
    """Runs the steps and watches what comes of them."""

    def __init__(self, site: Site, teller: Teller) -> None:
        self._site = site
        self._teller = teller
        self._routine: set[str] = set()  # requests of the regular polls and feedings
        self._is_routine_answer = False
        self._alike: Counter[str] = Counter()  # frames of this step with the same meaning
        self._last_line = b""
        self._has_ended = False  # the agent, which it must not
        self._is_cut = False  # the pile's network

    def warm_up(self) -> bool:
        """Start the agent, wait until it is connected and measures, and learn what its routine frames look like."""
        self._site.start_agent()
        began_at = time.monotonic()
        is_online = False
        while not self._has_ended and time.monotonic() - began_at < (SETTLE_S if is_online else ONLINE_S):
            happening = self._site.next(0.2)
            if happening is not None and happening.kind == "frame":
                self._routine.add(happening.what["hex"])
            elif happening is not None:
                is_online = is_online or happening.kind == "reply"
                self._show(happening)
        return is_online

    def run(self, step: Step) -> Outcome:
        """One step: what happens at the board, the command, everything up to its last expected message."""
        self._teller.title(f"{step.number} {COMMANDS[step.number].title}: {step.says}")
        outcome = Outcome(step)
        self._alike.clear()
        for deed in step.first:
            self._site.board(deed)
            self._pass_time(outcome, 1.5)
        line = self._last_line = self._line(step)
        self._teller.tell("platform", f"▶ {line.decode()}")
        sent_at, may_cut = time.monotonic(), step.cut
        self._site.publish(line)
        request_timestamp = line.split(b",")[3].decode()
        while not (_is_complete(outcome) or self._has_ended) and time.monotonic() - sent_at < step.timeout_s:
            self._watch(outcome, self._site.next(0.1), request_timestamp)
            if may_cut and len(outcome.replies) == len(step.replies):
                may_cut = False
                self._cut_network()
        outcome.seconds = time.monotonic() - sent_at
        self._pass_time(outcome, step.settle_s)
        outcome.wrong = _fault(outcome) or (step.check(self._site) if step.check else "")
        if outcome.wrong:
            self._teller.tell("demo", f"NOT AS EXPECTED: {outcome.wrong}", "wrong")
        return outcome

    def _line(self, step: Step) -> bytes:
        if step.again:
            return self._last_line
        now_ms = time.time_ns() // 1_000_000
        if step.line:
            return step.line.format(now=now_ms).encode()
        return self._site.command(step.number, step.values, now_ms - step.age_s * 1000)

    def _pass_time(self, outcome: Outcome, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._watch(outcome, self._site.next(left_s), "")

    def _watch(self, outcome: Outcome, happening: Happening | None, request_timestamp: str) -> None:
        if happening is None:
            return
        if happening.kind == "frame":
            outcome.frames += self._show_frame(happening.what)
            return
        self._show(happening)
        if happening.kind == "reply":
            reply: Reply = happening.what
            if reply.request_timestamp == request_timestamp and reply.command in (outcome.step.number, 0):
                is_repeated = outcome.step.cut and reply in outcome.replies  # the cut may take its acknowledgement
                outcome.replies += [] if is_repeated else [reply]
            elif reply.command not in UNFORESEEN:
                outcome.reports.append(reply)

    def _show(self, happening: Happening) -> None:
        if happening.kind == "reply":
            self._teller.tell("pile", f"◀ {_reply_words(happening.what)}")
        elif happening.kind == "board":
            self._teller.tell("board", f"  {happening.what}")
            if self._is_cut and "contactor opened" in happening.what:
                self._mend_network()
        elif happening.kind == "log" and ("level=warning" in happening.what or "level=error" in happening.what):
            self._teller.tell("log", f"  {happening.what}", "dim")
        elif happening.kind == "restarted":
            self._teller.tell("launcher", "  the agent has ended and is started again", "dim")
        elif happening.kind == "ended":
            self._has_ended = True
            self._teller.tell("demo", f"  the agent ended with exit code {happening.what}", "wrong")

    def _cut_network(self) -> None:
        assert self._site.network is not None
        self._site.network.cut()
        self._is_cut = True
        self._teller.tell("network", "  cut: the pile is on its own", "wrong")

    def _mend_network(self) -> None:
        assert self._site.network is not None
        self._site.network.mend()
        self._is_cut = False
        self._teller.tell("network", "  back", "pile")

    def _show_frame(self, frame: dict[str, Any]) -> int:
        """Show a frame that is not routine, of many alike in a step the first ones; 1 if it counts."""
        is_request = frame["frame"] == "request"
        if is_request:
            self._is_routine_answer = frame["hex"] in self._routine
        if self._is_routine_answer:
            return 0
        data = bytes.fromhex(frame["hex"])
        arrow, meaning = "→" if is_request else "←", describe(data, is_request)
        self._alike[meaning] += 1
        if self._alike[meaning] <= ALIKE_SHOWN:
            more = "; and so on" if self._alike[meaning] == ALIKE_SHOWN else ""
            self._teller.tell("serial", f"{arrow} {hexadecimal(data)}   {meaning}{more}")
        return 1


def _is_complete(outcome: Outcome) -> bool:
    return len(outcome.replies) >= len(_expected(outcome)) and len(outcome.reports) >= len(outcome.step.reports)


def _expected(outcome: Outcome) -> tuple[Result, ...]:
    """The step's replies, and one for each record that the first of them has announced."""
    if not outcome.step.records or not outcome.replies or not isinstance(outcome.replies[0].body, RecordsSummary):
        return outcome.step.replies
    return outcome.step.replies + (Result.OK,) * outcome.replies[0].body.total


def _fault(outcome: Outcome) -> str:
    """How the messages differ from what was expected; empty when they do not."""
    replies = tuple(reply.result for reply in outcome.replies)
    reports = tuple((reply.command, reply.result) for reply in outcome.reports)
    if replies != _expected(outcome):
        return f"replies {_names(replies)}, expected {_names(_expected(outcome))}"
    if reports != outcome.step.reports:
        return f"reports {reports}, expected {outcome.step.reports}"
    return ""


def _names(results: tuple[Result, ...]) -> str:
    return ", ".join(result.name for result in results) or "none"


def _reply_words(reply: Reply) -> str:
    asked = "unasked " if reply.request_timestamp == NOT_ASKED else ""
    first = f" of {reply.first.name}" if reply.first is not None else ""
    return f"{asked}{reply.command} {reply.result.name}{first}  {_body_words(reply.body)}"


def _body_words(body: Any) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, UpdateReport):
        return _progress(body)
    return " ".join(
        f"{name}={_value(value)}" for name, value in zip(body._fields, body, strict=True) if value is not None
    )


def _progress(report: UpdateReport) -> str:
    """111 in words, with a bar where there is progress."""
    if report.state == UpdateState.NONE:
        return f"no upgrade; {report.version} runs"
    words = f"{report.record_id} to {report.version}: {UPDATE_STATES[report.state]}"
    return f"{words} {bar(report.percent)}" if report.state in WITH_PROGRESS else words


def _value(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else "; ".join("/".join(map(str, row)) for row in value)


def _table(outcomes: list[Outcome]) -> Iterator[str]:
    """The closing table: command, meaning, frames, reply, time."""
    rows = [("command", "meaning", "frames", "reply", "time", "")]
    for outcome in outcomes:
        replies = (*outcome.replies, *outcome.reports)
        reply = ", ".join(f"{_foreign(reply, outcome)}{reply.result.name}" for reply in replies) or "none"
        mark = "wrong" if outcome.wrong else "as expected"
        rows.append((str(outcome.step.number), outcome.step.says, str(outcome.frames), reply,
                     f"{outcome.seconds * 1000:.0f} ms", mark))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _foreign(reply: Reply, outcome: Outcome) -> str:
    """A report says for which command it is."""
    return f"{reply.command} " if reply in outcome.reports else ""


def run(baud: int, folder: Path) -> int:
    """The whole demo in ``folder``; the exit code."""
    teller = Teller()
    maker = Maker()
    with Site(folder, baud=baud, with_network=True, maker=maker) as site:
        put_firmware(site.ftp_folder, maker)
        teller.title("A charging site in a box")
        teller.tell("broker", f"{site.broker.host}:{site.broker.port}", "dim")
        teller.tell("FTP", f"127.0.0.1:{site.ftp.port}", "dim")
        teller.tell("serial", f"{site.port} at {baud} baud", "dim")
        teller.tell("agent", f"pile-agent run --config {site.config_file}", "dim")
        demo = Demo(site, teller)
        if not demo.warm_up():
            teller.tell("demo", "the agent did not come online", "wrong")
            return 1
        outcomes = [demo.run(step) for step in story(site)]
    teller.title("What came of it")
    return closing(outcomes)


def closing(outcomes: list[Outcome]) -> int:
    """Print what came of it all; the exit code: 0 if every command was shown, and every step was as expected."""
    print("\n".join(_table(outcomes)))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missing = sorted(COMMANDS.keys() - {outcome.step.number for outcome in outcomes})
    print(
        f"\n{len(outcomes) - len(wrong)} of {len(outcomes)} steps as expected; commands not shown: {missing or 'none'}"
    )
    return 1 if wrong or missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--baud", type=int, default=9600, help="pace of the serial line (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the configuration and the journal")
    options = parser.parse_args()
    if options.keep:
        return run(options.baud, Path(tempfile.mkdtemp(prefix="pile-demo-")))
    with tempfile.TemporaryDirectory(prefix="pile-demo-") as folder:
        return run(options.baud, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
