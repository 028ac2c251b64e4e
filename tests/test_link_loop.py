"""The link in the main loop: never blocks, keeps deadlines and the order of acknowledgements, survives its callers."""

import logging
import socket
import time
from pathlib import Path
from random import Random

import pytest
from broker_helpers import (
    CLOSE,
    CONNECT,
    PUBLISH,
    REPLY,
    SUBSCRIBE,
    Answer,
    Pile,
    ScriptedBroker,
    config,
    puback,
)

from agent.link.backoff import Backoff
from agent.link.link import LinkState
from sim.broker import Mosquitto, free_port

ACCEPTED = bytes.fromhex("20 02 00 00")
GRANTED = bytes.fromhex("90 03 00 01 01")
WELCOME: dict[int, Answer] = {CONNECT: ACCEPTED, SUBSCRIBE: GRANTED, PUBLISH: puback}


class Clock:
    """Time as an argument."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Highest(Random):
    """Always draws the latest possible time."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_back_off_draws_any_time_up_to_a_ceiling_that_doubles() -> None:
    latest = Backoff(first_s=1.0, max_s=60.0, rng=Highest())
    assert [latest.next_delay_s() for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    earliest = Backoff(first_s=1.0, max_s=60.0, rng=Lowest())
    assert [earliest.next_delay_s() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_back_off_survives_a_year_without_network_and_starts_anew_after_a_reset() -> None:
    backoff = Backoff(first_s=1.0, max_s=60.0, rng=Highest())
    for _ in range(100_000):
        assert backoff.next_delay_s() <= 60.0
    backoff.reset()
    assert backoff.next_delay_s() == 1.0


def test_the_loop_turns_while_a_dial_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        pile = Pile(config(server.getsockname()[1], connect_timeout_s=3.0))
        pile.stop_s = 0.1
        started = time.monotonic()
        with pile:
            turns = 0
            while time.monotonic() - started < 0.3:
                pile.turn()
                turns += 1
            assert turns >= 5
            assert pile.link.state.phase == "dialling"
        assert time.monotonic() - started < 2.0  # nor did the stop wait for the dial


def test_it_waits_out_its_back_off_and_says_when_it_is_due() -> None:
    clock = Clock()
    pile = Pile(config(free_port(), backoff_first_s=8.0, backoff_max_s=60.0), now=clock)
    with pile:
        pile.run_until(lambda: pile.link.state.phase == "waiting")
        due = pile.link.next_deadline()
        assert 1000.0 < due <= 1008.0
        clock.now = due - 0.001
        pile.link.tick(clock.now)
        assert pile.link.state.phase == "waiting"
        clock.now = due
        pile.link.tick(clock.now)
        assert pile.link.state.phase == "dialling"


def test_a_first_dial_may_be_told_to_wait() -> None:
    clock = Clock()
    pile = Pile(config(free_port()), now=clock)
    pile.link.start(delay_s=4.0)
    assert pile.link.next_deadline() == 1004.0
    pile.link.tick(1003.999)
    assert (pile.link.state.phase, pile.link.state.attempts) == ("waiting", 0)
    clock.now = 1004.0
    pile.link.tick(clock.now)
    assert pile.link.state.phase == "dialling"
    pile.link.stop(0.1)
    pile.poll.close()


def test_a_connection_that_lasted_resets_the_back_off_and_one_that_did_not_does_not() -> None:
    clock = Clock()
    with ScriptedBroker(WELCOME) as broker, Pile(config(broker.port, stable_s=30.0), now=clock) as pile:

        def lose_after(seconds: float) -> int:
            pile.run_until_ready()
            clock.now += seconds
            pile.cut()
            pile.run_until(lambda: not pile.link.state.connected)
            attempts = pile.link.state.attempts
            clock.now = pile.link.next_deadline()
            return attempts

        assert [lose_after(1.0), lose_after(29.0), lose_after(30.0), lose_after(1.0)] == [1, 2, 1, 2]


def test_a_reason_is_logged_once_though_it_comes_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedBroker({**WELCOME, PUBLISH: CLOSE}) as broker, Pile(config(broker.port)) as pile:
        pile.run_until(lambda: pile.link.state.counters.losses >= 5)
    assert len(pile.reasons) >= 5
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_messages_are_acknowledged_one_by_one_after_they_are_stored() -> None:
    """Two commands arrive in one piece, packet ids 7 and 9."""
    two = bytes.fromhex("32 13 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00 07") + bytes.fromhex(
        "32 13 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00 09"
    )
    with ScriptedBroker({**WELCOME, SUBSCRIBE: GRANTED + two}) as broker, Pile(config(broker.port)) as pile:
        acknowledged_before: list[list[bytes]] = []

        def note(_payload: bytes) -> bool:
            acknowledged_before.append([packet for packet in broker.packets if packet[0] == 0x40])
            return True

        pile.accepts = note
        pile.run_until(lambda: len([packet for packet in broker.packets if packet[0] == 0x40]) == 2)

    assert acknowledged_before[0] == []
    assert [packet for packet in broker.packets if packet[0] == 0x40] == [b"\x40\x02\x00\x07", b"\x40\x02\x00\x09"]


def test_after_a_command_that_was_not_stored_no_later_one_is_acknowledged() -> None:
    three = b"".join(
        bytes.fromhex("32 13 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00") + packet_id
        for packet_id in (b"\x07", b"\x08", b"\x09")
    )
    with ScriptedBroker({**WELCOME, SUBSCRIBE: GRANTED + three}) as broker:
        pile = Pile(config(broker.port, backoff_first_s=100.0, backoff_max_s=100.0))
        answers = iter([True, False])
        pile.accepts = lambda payload: next(answers)  # a third call would raise
        with pile:
            pile.run_until(lambda: pile.reasons)

    assert pile.received == [b""]
    assert not [packet for packet in broker.packets if packet in (b"\x40\x02\x00\x08", b"\x40\x02\x00\x09")]


def test_commands_that_are_not_taken_yet_wait_in_their_order_unacknowledged() -> None:
    three = b"".join(
        bytes.fromhex("32 14 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00") + bytes([number]) + b"%d" % number
        for number in (7, 8, 9)
    )
    with ScriptedBroker({**WELCOME, SUBSCRIBE: GRANTED + three}) as broker, Pile(config(broker.port)) as pile:
        offered: list[bytes] = []
        pile.accepts = lambda payload: offered.append(payload)  # type: ignore[func-returns-value]  # None: not yet
        pile.run_until(lambda: pile.link.state.connected and len(pile.link._connection._untaken) == 3)
        assert set(offered) == {b"7"}
        assert [packet for packet in broker.packets if packet[0] == 0x40] == []

        answers = iter([True, None, True, True])
        pile.accepts = lambda payload: next(answers)
        pile.link.take_messages()
        assert pile.received == [b"7"]
        pile.link.take_messages()
        assert pile.received == [b"7", b"8", b"9"]
        pile.run_until(lambda: len([packet for packet in broker.packets if packet[0] == 0x40]) == 3)

    acknowledged = [packet[3] for packet in broker.packets if packet[0] == 0x40]
    assert acknowledged == [7, 8, 9]


def test_commands_that_were_not_taken_stay_at_the_broker_when_the_connection_goes() -> None:
    one = bytes.fromhex("32 13 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00 07")
    with ScriptedBroker({**WELCOME, SUBSCRIBE: GRANTED + one}) as broker, Pile(config(broker.port)) as pile:
        pile.accepts = lambda payload: None
        pile.run_until(lambda: pile.link.state.connected and pile.link._connection._untaken)
        first = pile.link._connection
        pile.cut()
        pile.run_until(lambda: pile.link._connection not in (None, first) and pile.link._connection._untaken)
        assert len(pile.link._connection._untaken) == 1
        pile.accepts = lambda payload: True
        pile.link.take_messages()
        pile.run_until(lambda: len([packet for packet in broker.packets if packet[0] == 0x40]) == 1)
    assert pile.received == [b""]


def test_an_exception_in_on_delivered_gives_the_row_back(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedBroker(WELCOME) as broker:
        pile = Pile(config(broker.port))
        failures = [OSError("disk full")]

        def fail_once(_row_id: int) -> None:
            if failures:
                raise failures.pop()

        pile.before_delivered = fail_once
        with pile:
            pile.put(b"row 1", b"row 2")
            pile.run_until(lambda: pile.delivered == [1, 2])

    assert "a delivery could not be recorded (disk full)" in pile.reasons[0]


def test_an_exception_in_on_state_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedBroker(WELCOME) as broker:
        pile = Pile(config(broker.port))

        def fail(_state: LinkState) -> None:
            raise KeyError("gun")

        pile.before_state = fail
        with pile:
            pile.run_until_ready()
    assert "KeyError: 'gun'" in caplog.text


def test_each_connection_opens_a_new_window_and_gives_back_what_was_in_flight() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: GRANTED}) as broker:
        pile = Pile(config(broker.port, window=4, delivery_timeout_s=0.1))
        pile.stop_s = 0.1
        with pile:
            pile.put(b"a", b"b", b"c", b"d")
            pile.run_until(lambda: pile.link.state.window == 2)

    rows = [packet[-1:] for packet in broker.packets if REPLY.encode() in packet]
    assert rows[:6] == [b"a", b"b", b"c", b"a", b"b", b"c"]  # the fourth place of the window was presence


def test_a_broker_of_mqtt_5_may_narrow_the_window() -> None:
    """Receive Maximum 5 in CONNACK; one place of it stays free for "offline"."""
    answers = {CONNECT: bytes.fromhex("20 06 00 00 03 21 00 05"), SUBSCRIBE: bytes.fromhex("90 04 00 01 00 01")}
    with ScriptedBroker({**answers, PUBLISH: puback}) as broker, Pile(config(broker.port, protocol="5")) as pile:
        pile.run_until(lambda: pile.link.room)
        pile.run_until(lambda: pile.link.room == 4)


def test_more_than_the_socket_takes_is_written_as_it_drains(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Pile(config(broker.port)) as pile:
        pile.run_until_ready()
        pile.run_until(lambda: pile.link.room == 20)  # nothing else moves on this connection
        pile.outbox = {1: bytes(20_000_000)}
        pile.pump()
        deadline = time.monotonic() + 8.0
        while pile.outbox:
            assert time.monotonic() < deadline
            pile.poll.wait(1.0)  # no tick: the poller alone must know that there is more to write


def test_small_packets_leave_at_once() -> None:
    with ScriptedBroker(WELCOME) as broker, Pile(config(broker.port)) as pile:
        pile.run_until_ready()
        connection = pile.link._connection
        assert connection is not None
        assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_stop_is_bounded_though_nothing_is_acknowledged() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: GRANTED}) as broker:
        pile = Pile(config(broker.port))
        pile.stop_s = 0.2
        with pile:
            pile.put(b"row")
            pile.run_until_ready()
            pile.pump()
            started = time.monotonic()
        assert time.monotonic() - started < 1.5

    assert broker.packets[-1] == bytes.fromhex("e0 00")  # DISCONNECT all the same
    assert pile.outbox == {1: b"row"}


def test_messages_that_come_during_the_stop_stay_at_the_broker() -> None:
    message = bytes.fromhex("32 13 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00 07")

    def answer(packet: bytes) -> bytes:
        return (message if packet.endswith(b"offline") else b"") + puback(packet)

    with ScriptedBroker({**WELCOME, PUBLISH: answer}) as broker:
        with Pile(config(broker.port)) as pile:
            pile.run_until_ready()
        assert pile.received == []
        assert b"\x40\x02\x00\x07" not in broker.packets


def test_a_topic_with_a_wildcard_is_the_callers_mistake() -> None:
    with ScriptedBroker(WELCOME) as broker, Pile(config(broker.port)) as pile:
        pile.run_until_ready()
        with pytest.raises(ValueError, match="wildcard"):
            pile.link.publish(1, "klc/#", b"row")
        assert pile.link.state.connected
