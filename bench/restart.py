"""What the agent does in the first second after ``kill -9`` in the middle of a start: ``python -m bench.restart``.

A service manager that restarts at once is assumed: time 0 is the kill, and the next agent's exec. Prints, for each of
some rounds, when what happened, in ms, and the median.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from agent.protocol.results import Result
from sim.site import Happening, Site
from sim.story import start

ROUNDS = 7
ROUND_S = 15.0
PORT_OPEN = "serial port open"
SIZES = ("VmRSS", "Pss")
FEEDING = bytes.fromhex("01 06 00 00 00 0a")  # 10 s into the watchdog's register

Sign = Callable[[Happening], bool]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site:
        site.start_agent()
        site.wait_reply(100, Result.OK)
        rounds = [_round(site, number) for number in range(ROUNDS)]
        memory = _memory(site.agent_pid)
    print(f"{'ms after kill -9 (9600 baud)':<44} {'median':>7}   rounds")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"{name:<44} {median(values):>7.0f}   {' '.join(f'{value:.0f}' for value in values)}")
    print(", ".join(f"{key} {value:.1f} MiB" for key, value in memory.items()) + " of the running agent")


def _round(site: Site, number: int) -> dict[str, float]:
    """One start, killed during its handshake, and all the next agent does until current flows."""
    site.board({"do": "plug", "gun": 1})
    time.sleep(1.0)  # two polls, so that the agent knows of the plug
    line = site.command(101, start(1, f"R{number}"))
    site.publish(line)
    site.wait_for(_board("handshake"))
    began_at = time.monotonic()
    site.kill_agent()
    site.start_agent()
    signs = _signs(line)
    site.wait_for(lambda one: one.kind == "ended")
    seen: dict[str, float] = {}
    while len(seen) < len(signs):
        happening = site.wait_for(lambda one: True)
        if happening.at - began_at > ROUND_S:
            raise TimeoutError(f"not within {ROUND_S:g} s: {', '.join(signs.keys() - seen.keys())}")
        for name, sign in signs.items():
            is_of_the_dead = happening.kind == "frame" and PORT_OPEN not in seen
            if name not in seen and sign(happening) and not is_of_the_dead:
                seen[name] = (happening.at - began_at) * 1000
                break
    site.board({"do": "unplug", "gun": 1})
    site.wait_reply(101, Result.OK)  # the report of the charge that ended so
    site.board({"do": "clear", "gun": 1})
    return {name: seen[name] for name in signs}


def _signs(line: bytes) -> dict[str, Sign]:
    """What is looked for, in the order in which it is expected."""
    request_timestamp = line.split(b",")[3].decode()
    return {
        "journal open, state restored": _log("room=loop"),
        PORT_OPEN: _log(": open at"),
        "first poll on the wire": _frame("request", b""),
        "board measured": _log('room=power msg="board on'),
        "connected and subscribed": _log("connected to"),
        "watchdog fed": _frame("request", FEEDING),
        "board: contactor closed": _board("contactor closed"),
        "OK reply at the platform": lambda one: (
            one.kind == "reply" and one.what.request_timestamp == request_timestamp and one.what.result is Result.OK
        ),
    }


def _log(text: str) -> Sign:
    return lambda one: one.kind == "log" and text in one.what


def _board(text: str) -> Sign:
    return lambda one: one.kind == "board" and text in one.what


def _frame(direction: str, data: bytes) -> Sign:
    return lambda one: one.kind == "frame" and one.what["frame"] == direction and data in bytes.fromhex(one.what["hex"])


def _memory(pid: int) -> dict[str, float]:
    """Resident and proportional size in MiB."""
    text = Path(f"/proc/{pid}/status").read_text() + Path(f"/proc/{pid}/smaps_rollup").read_text()
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key: int(rows[key].split()[0]) / 1024 for key in SIZES}


if __name__ == "__main__":
    main()
