"""A charging site whose real agent is watched, killed and started again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import CallbackAPIVersion, Client

from agent.cli.show import NoAgentError
from agent.protocol.codec import NOT_ASKED, Reply
from agent.protocol.results import Result
from sim.site import PILE, Happening, Site
from sim.story import start, stop

FAST = "poll_ms = 100"


class Watch:
    """A site's happenings, all kept: wait for something, or look back."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen: list[Happening] = []
        self._stamp_ms = 0

    # ---- waiting ----

    def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait for ``condition``, looked at anew after each happening, and otherwise 20 times a second."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            happening = self.site.next(0.05)
            if happening is not None:
                self.seen.append(happening)
                assert happening.kind != "ended" or happening.what in (0, -9), f"the agent has died:\n{self._latest()}"
            assert time.monotonic() < deadline, f"not reached; last happened:\n{self._latest()}"

    def until_answered(self, line: bytes, *results: Result, timeout_s: float = 10.0) -> None:
        """Until the replies to that line are these, in this order."""
        self.until(lambda: len(self.results(line)) >= len(results), timeout_s)
        assert self.results(line) == list(results), self._latest()

    def until_settled(self, line: bytes, *results: Result) -> None:
        """``until_answered`` for a line that an agent may have been killed over before it was acknowledged: the broker
        delivers it again, which is answered DUPLICATE besides."""
        self.until(lambda: results[-1] in self.results(line))
        assert [result for result in self.results(line) if result is not Result.DUPLICATE] == list(results)

    def until_working(self, timeout_s: float = 10.0) -> None:
        """Until the agent is connected and its board answers."""
        self.until(self.is_working, timeout_s)

    def is_working(self) -> bool:
        status = self.status()
        return bool(status) and status["link"]["connected"] and not _reasons(status)

    def status(self) -> Any:
        """The agent's own view of it all; empty while none answers."""
        try:
            return self.site.status()
        except NoAgentError:
            return {}

    def phase(self, gun: int) -> str:
        """How far the gun's charge is in the agent's view; empty without one."""
        session = self.status()["guns"][gun - 1]["session"]
        return session["phase"] if session else ""

    # ---- doing ----

    def send(self, number: int, data: Any, timestamp: int | None = None) -> bytes:
        """Publish a command, with a timestamp that no other has unless told one; its line."""
        self._stamp_ms = max(self._stamp_ms + 1, time.time_ns() // 1_000_000)
        line = self.site.command(number, data, timestamp if timestamp is not None else self._stamp_ms)
        self.site.publish(line)
        return line

    def start(self, gun: int, order: str) -> bytes:
        return self.send(101, start(gun, order))

    def stop(self, gun: int, order: str) -> bytes:
        return self.send(101, stop(gun, order))

    def charge(self, gun: int, order: str) -> None:
        """A car is plugged in, and charges."""
        self.site.board({"do": "plug", "gun": gun})
        self.until(lambda: self.status()["guns"][gun - 1]["status"] == "plugged")
        self.until_answered(self.start(gun, order), Result.ACCEPTED, Result.OK)

    def restart_killed(self) -> None:
        """kill -9, and the service manager starts it again."""
        self.site.kill_agent()
        self.site.start_agent()

    def gun(self, number: int) -> Any:
        """The gun as the board has it."""
        return self.site.board({"do": "state"})["state"]["guns"][number - 1]

    # ---- looking back ----

    def replies(self, line: bytes) -> list[Reply]:
        """Replies to that line. One that a killed agent had sent and not yet struck off comes again: it counts once."""
        timestamp = timestamp_of(line)
        return _once([one for one in self._messages() if one.request_timestamp == timestamp])

    def results(self, line: bytes) -> list[Result]:
        return [reply.result for reply in self.replies(line)]

    def reports(self, number: int) -> list[Reply]:
        """What was sent unasked."""
        return _once([one for one in self._messages() if one.request_timestamp == NOT_ASKED and one.command == number])

    def answers(self) -> list[Reply]:
        """Every reply that was asked for."""
        return [one for one in self._messages() if one.request_timestamp != NOT_ASKED]

    def logged(self, text: str) -> list[str]:
        return [one.what for one in self.seen if one.kind == "log" and text in one.what]

    def noted(self, text: str) -> list[str]:
        """What the board did."""
        return [one.what for one in self.seen if one.kind == "board" and text in one.what]

    def requests(self, data: bytes) -> int:
        """How many requests with these bytes were on the serial line."""
        return sum(
            one.what["frame"] == "request" and data in bytes.fromhex(one.what["hex"])
            for one in self.seen
            if one.kind == "frame"
        )

    def _latest(self) -> str:
        return "\n".join([f"{one.kind}: {one.what}" for one in self.seen if one.kind != "frame"][-25:])

    def _messages(self) -> list[Reply]:
        return [one.what for one in self.seen if one.kind == "reply"]


def forget_session(port: int, client_id: str) -> None:
    """What the broker would send that client again is forgotten: an agent without its journal takes it for new."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True)
    client.on_connect = lambda *_: client.disconnect()
    client.connect("127.0.0.1", port)
    client.loop_forever()


def timestamp_of(line: bytes) -> str:
    return line.split(b",")[3].decode()


@contextmanager
def working(site: Site) -> Iterator[Watch]:
    """A fresh agent at a site that others have used and will use: no journal, empty guns, a sound line."""
    _tidy(site)
    forget_session(site.broker.port, PILE)
    watch = Watch(site)
    site.start_agent()
    watch.until_working()
    try:
        yield watch
    finally:
        site.stop_agent()
        _tidy(site)


def _tidy(site: Site) -> None:
    for command in ("restore", "silent"):
        site.board({"do": command} | ({"on": False} if command == "silent" else {}))
    for gun in (1, 2):
        site.board({"do": "unplug", "gun": gun})
        site.board({"do": "clear", "gun": gun})
    for file in (site.folder / "data").iterdir():
        file.unlink()
    while site.next(0.0) is not None:
        pass


def _reasons(status: Any) -> list[str]:
    """What is wrong with lines and devices."""
    lines = status["lines"]
    return [one["reason"] for line in lines for one in (line, *line["devices"]) if one["reason"]]


def _once(replies: list[Reply]) -> list[Reply]:
    return [one for number, one in enumerate(replies) if one not in replies[:number]]
