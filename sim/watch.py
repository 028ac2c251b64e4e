"""A charging site watched: what happens there is kept, waited for and looked back at."""

import time
from collections.abc import Callable
from typing import Any

from agent.cli.show import NoAgentError
from agent.protocol.codec import NOT_ASKED, Reply
from agent.protocol.results import Result
from sim.site import Happening, Site
from sim.story import start, stop

GOOD_ENDS = (0, -9)  # exit codes of an agent that was told to stop, or killed


class Watch:
    """``about`` stands in the errors; ``timeout_s`` holds where a wait has none of its own."""

    def __init__(self, site: Site, about: object = "", timeout_s: float = 30.0) -> None:
        self.site = site
        self.seen: list[Happening] = []
        self._about = f"{about}: " if about else ""
        self._timeout_s = timeout_s
        self._stamp_ms = 0

    # ---- waiting ----

    def until(self, condition: Callable[[], object], timeout_s: float | None = None) -> None:
        """Wait for ``condition``, looked at anew after each happening, and otherwise 50 times a second. Raises
        ``TimeoutError``, and ``RuntimeError`` if the agent dies of itself."""
        most_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + most_s
        while not condition():
            self._look(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError(self._told(f"not reached in {most_s:g} s"))

    def until_answered(self, line: bytes, *results: Result, timeout_s: float | None = None) -> None:
        """Until there are as many replies to that line; they must be these, in this order."""
        self.until(lambda: len(self.results(line)) >= len(results), timeout_s)
        assert self.results(line) == list(results), self._told(f"{line!r}: {self.results(line)}, expected {results}")

    def until_settled(self, line: bytes, *results: Result) -> None:
        """``until_answered`` for a line that an agent may have been killed over before it was acknowledged: the broker
        delivers it again, which is answered DUPLICATE besides."""
        self.until(lambda: results[-1] in self.results(line))
        found = [result for result in self.results(line) if result is not Result.DUPLICATE]
        assert found == list(results), self._told(f"{line!r}: {found}, expected {results}")

    def until_working(self, timeout_s: float | None = None) -> None:
        """Until the agent is connected and has measured."""
        self.until(self.is_working, timeout_s)

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._look(left_s)

    def _look(self, timeout_s: float) -> None:
        happening = self.site.next(timeout_s)
        if happening is None:
            return
        self.seen.append(happening)
        if happening.kind == "ended" and happening.what not in GOOD_ENDS:
            raise RuntimeError(self._told(f"the agent has died, exit code {happening.what}"))

    def _told(self, what: str) -> str:
        latest = [f"{one.kind}: {one.what}" for one in self.seen if one.kind != "frame"][-25:]
        return "\n".join([f"{self._about}{what}; last happened:", *latest])

    # ---- how it is ----

    def status(self) -> Any:
        """The agent's own view of it all; empty while none answers."""
        try:
            return self.site.status()
        except NoAgentError:
            return {}

    def is_working(self) -> bool:
        """The agent is connected, its boards answer, and it has measured every gun."""
        status = self.status()
        return bool(
            status
            and status["link"]["connected"]
            and not any(one["reason"] for line in status["lines"] for one in (line, *line["devices"]))
            and all(gun["reading"] is not None for gun in status["guns"])
        )

    def view(self, gun: int) -> Any:
        """The gun as the agent has it; empty while none answers."""
        status = self.status()
        return status["guns"][gun - 1] if status else {}

    def phase(self, gun: int) -> str:
        """How far the gun's charge is in the agent's view; empty without one."""
        session = self.view(gun).get("session")
        return session["phase"] if session else ""

    def gun(self, number: int) -> Any:
        """The gun as the board has it."""
        return self.site.board({"do": "state"})["state"]["guns"][number - 1]

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

    def plug(self, gun: int) -> None:
        """A car is plugged in, and the agent sees it."""
        self.site.board({"do": "plug", "gun": gun})
        self.until(lambda: self.view(gun).get("status") == "plugged")

    def charge(self, gun: int, order: str) -> None:
        """A car is plugged in, and charges."""
        self.plug(gun)
        self.until_answered(self.start(gun, order), Result.ACCEPTED, Result.OK)

    def restart_killed(self) -> None:
        """kill -9, and the service manager starts it again."""
        self.site.kill_agent()
        self.site.start_agent()

    # ---- looking back ----

    def replies(self, line: bytes) -> list[Reply]:
        """Replies to that line. One that a killed agent had sent and not yet struck off comes again: it counts once."""
        timestamp = timestamp_of(line)
        return list(dict.fromkeys(one for one in self._messages() if one.request_timestamp == timestamp))

    def results(self, line: bytes) -> list[Result]:
        return [reply.result for reply in self.replies(line)]

    def reports(self, number: int) -> list[Reply]:
        """What was sent unasked."""
        unasked = (one for one in self._messages() if one.request_timestamp == NOT_ASKED)
        return list(dict.fromkeys(one for one in unasked if one.command == number))

    def answers(self) -> list[Reply]:
        """Every reply that was asked for."""
        return [one for one in self._messages() if one.request_timestamp != NOT_ASKED]

    def logged(self, text: str) -> list[str]:
        """Lines of the agent's log."""
        return self._said("log", text)

    def noted(self, text: str) -> list[str]:
        """What the board did."""
        return self._said("board", text)

    def requests(self, data: bytes) -> int:
        """How many requests with these bytes were on the serial line."""
        frames = (one.what for one in self.seen if one.kind == "frame")
        return sum(one["frame"] == "request" and data in bytes.fromhex(one["hex"]) for one in frames)

    def _said(self, kind: str, text: str) -> list[str]:
        return [one.what for one in self.seen if one.kind == kind and text in one.what]

    def _messages(self) -> list[Reply]:
        return [one.what for one in self.seen if one.kind == "reply"]


def timestamp_of(line: bytes) -> str:
    return line.split(b",")[3].decode()
