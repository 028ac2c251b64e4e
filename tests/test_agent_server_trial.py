"""106 with another server, by the real agent between two real brokers: it is tried beside the old one, and nothing the
pile has to say is lost in the move."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from broker_helpers import Platform
from site_helpers import FAST, working

from agent.protocol.codec import Codec, Reply
from agent.protocol.commands import Configure, Empty
from agent.protocol.results import Result
from sim.broker import Mosquitto, free_port
from sim.site import PILE, Site
from sim.watch import Watch, timestamp_of

ACCEPTED, OK, NOT_APPLIED = Result.ACCEPTED, Result.OK, Result.NOT_APPLIED
REPLY, STATUS = f"klc/reply/qik/{PILE}", f"klc/status/qik/{PILE}"
LONG_S = 20.0


@dataclass
class Two:
    """The pile's own broker, where ``watch`` is the platform, and another one."""

    watch: Watch
    other: Mosquitto
    own_platform: Platform
    other_platform: Platform

    @property
    def site(self) -> Site:
        return self.watch.site

    def move_to(self, host: str, port: int, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "phase": 3, "max_current_a": 40, "mode": 2, "offline": 1, "offline_records": 100, "guns": 2,
            "gun_uses": 0, "reservation": 1, "screen_account": "", "screen_password": "", "heartbeat_s": 1,
            "server_ip": host, "server_port": port, "qr_codes": (),
        }  # fmt: skip
        return self.watch.send(106, Configure(**(fields | changes)))

    def wait(self, condition: Any, timeout_s: float = LONG_S) -> None:
        self.watch.until(condition, timeout_s)

    def broker(self) -> str:
        """The one the agent says it is connected to; empty while it is not."""
        link = self.watch.status().get("link", {})
        return str(link["broker"]) if link.get("connected") else ""


def replies(platform: Platform, line: bytes) -> list[Reply]:
    found = [Codec().decode_reply(one) for one in platform.payloads(REPLY)]
    return [one for one in found if one.request_timestamp == timestamp_of(line)]


def results(platform: Platform, line: bytes) -> list[Result]:
    return [one.result for one in replies(platform, line)]


def presence(platform: Platform) -> bytes:
    """The last one heard."""
    return platform.payloads(STATUS)[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = {"line": FAST, "broker": "trial_timeout_s = 5\nconnect_timeout_s = 2"}
    with Site(folder, broker=Mosquitto(folder / "broker"), baud=115_200, settings=settings) as site:
        yield site


@pytest.fixture
def two(site: Site, tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        other = stack.enter_context(Mosquitto(tmp_path / "other"))
        own_platform = stack.enter_context(Platform(site.broker.port))
        other_platform = stack.enter_context(Platform(other.port))
        yield Two(stack.enter_context(working(site)), other, own_platform, other_platform)


def test_a_server_that_is_reached_is_used_from_then_on(two: Two) -> None:
    line = two.move_to("127.0.0.1", two.other.port)
    two.wait(lambda: results(two.other_platform, line)[-1:] == [OK])
    assert OK not in results(two.own_platform, line)  # the final reply goes over the new link
    assert results(two.own_platform, line) + results(two.other_platform, line) == [ACCEPTED, OK]
    two.wait(lambda: presence(two.own_platform) == b"offline")
    assert presence(two.other_platform) == b"online"
    two.wait(lambda: two.broker() == f"127.0.0.1:{two.other.port}")

    question = two.site.command(100, Empty(), time.time_ns() // 1_000_000)
    two.other_platform.command(question)
    two.wait(lambda: results(two.other_platform, question) == [OK])


def test_it_is_used_after_a_restart_too(two: Two) -> None:
    line = two.move_to("127.0.0.1", two.other.port)
    two.wait(lambda: results(two.other_platform, line)[-1:] == [OK])
    two.watch.restart_killed()
    two.wait(lambda: two.broker() == f"127.0.0.1:{two.other.port}")


def test_nothing_is_lost_in_the_move(two: Two) -> None:
    """Whatever the pile answered is heard at one broker or the other. A question that was still at the old broker when
    the pile left it stays there."""
    line = two.move_to("127.0.0.1", two.other.port)
    questions = {timestamp_of(two.watch.send(100, Empty())) for _ in range(200)}
    two.wait(lambda: results(two.other_platform, line)[-1:] == [OK])

    def answered() -> set[str]:
        return questions & {one.request_timestamp for one in heard(two.own_platform) + heard(two.other_platform)}

    status = two.watch.status
    two.wait(lambda: status()["outbox"] == 0 and status()["messages"]["ok"] == len(answered()) + 1)  # 1: the 106


def heard(platform: Platform) -> list[Reply]:
    return [Codec().decode_reply(one) for one in platform.payloads(REPLY)]


def test_a_server_that_is_not_reached_leaves_the_old_one(two: Two) -> None:
    port = free_port()
    line = two.move_to("127.0.0.1", port, max_current_a=16)
    two.watch.until_answered(line, ACCEPTED, NOT_APPLIED, timeout_s=LONG_S)
    text = two.watch.replies(line)[1].body
    assert f"127.0.0.1:{two.site.broker.port} is kept" in text
    assert f"127.0.0.1:{port}" in text  # and why it was not reached
    assert presence(two.own_platform) == b"online"
    assert b"offline" not in two.own_platform.payloads(STATUS)[1:]
    assert two.watch.status()["parameters"] is None  # nothing of the 106 is in force
    two.wait(lambda: two.watch.gun(1)["current_limit_da"] != 160)
    two.watch.restart_killed()
    two.wait(lambda: two.broker() == f"127.0.0.1:{two.site.broker.port}")


def test_commands_are_answered_during_the_trial(two: Two) -> None:
    line = two.move_to("127.0.0.1", free_port())
    two.watch.until_answered(line, ACCEPTED)
    two.watch.until_answered(two.watch.send(100, Empty()), OK)
    assert two.watch.results(line) == [ACCEPTED]
    two.watch.until_answered(two.move_to("127.0.0.1", free_port()), Result.BUSY)
    two.watch.until_answered(line, ACCEPTED, NOT_APPLIED, timeout_s=LONG_S)


def test_a_server_that_refuses_the_login_is_not_reached(two: Two, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "closed", users={"someone": "else"}) as closed:
        line = two.move_to("127.0.0.1", closed.port)
        two.watch.until_answered(line, ACCEPTED, NOT_APPLIED, timeout_s=LONG_S)
    assert "login" in two.watch.replies(line)[1].body


def test_the_same_broker_under_another_name(two: Two) -> None:
    """Both links have one client id: the broker throws the old one out, which must not throw the new one out again."""
    line = two.move_to("localhost", two.site.broker.port)
    two.watch.until_answered(line, ACCEPTED, OK, timeout_s=LONG_S)
    two.wait(lambda: two.broker() == f"localhost:{two.site.broker.port}")
    assert two.watch.status()["link"]["counters"]["losses"] == 0
    two.wait(lambda: presence(two.own_platform) == b"online")


def test_killed_during_a_trial_it_is_tried_again(two: Two) -> None:
    two.other.stop()
    line = two.move_to("127.0.0.1", two.other.port)
    two.watch.until_answered(line, ACCEPTED)
    two.watch.restart_killed()
    two.other.start()
    two.wait(lambda: results(two.other_platform, line)[-1:] == [OK])


def test_back_to_the_first_one(two: Two) -> None:
    line = two.move_to("127.0.0.1", two.other.port)
    two.wait(lambda: results(two.other_platform, line)[-1:] == [OK])
    back = two.site.command(106, Configure(3, 40, 2, 1, 100, 2, 0, 1, "", "", 1, "127.0.0.1", two.site.broker.port, ()))
    two.other_platform.command(back)
    two.wait(lambda: results(two.own_platform, back)[-1:] == [OK])
    two.wait(lambda: presence(two.other_platform) == b"offline")
    two.wait(lambda: two.broker() == f"127.0.0.1:{two.site.broker.port}")
