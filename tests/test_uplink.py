"""The way to the platform between two brokers: a trial beside the link in use, the move, and the way back."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker_helpers import STATUS, Platform, config, wait_until

from agent.link.config import ServerTiming
from agent.link.link import LinkState
from agent.pile.parameters import Server
from agent.poller import Poller
from agent.uplink import Callbacks, Uplink
from sim.broker import EmbeddedBroker, free_port

TOPIC = "klc/reply/qik/32010001"


class Pile:
    """An uplink and the simplest caller of it: an outbox of rows 1, 2, …"""

    def __init__(self, own: int, stored: int | None = None, *, trial_s: float = 5.0, fallback_s: float = 60.0) -> None:
        self.poll = Poller()
        self.tried: list[tuple[Server, bool, str]] = []
        self.received: list[bytes] = []
        self.outbox: dict[int, bytes] = {}
        self.connections: list[bool] = []
        self._window, self._cursor = -1, 0
        callbacks = Callbacks(self._message_came, lambda count: None, self._delivered, self._state_told, self._tried)
        self.uplink = Uplink(
            config(own), at(stored) if stored is not None else None, ServerTiming(trial_s, fallback_s), callbacks,
            self.poll, time.monotonic, random.Random(1),
        )  # fmt: skip
        self.uplink.start()

    def put(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.outbox[max(self.outbox, default=0) + 1] = payload

    def run_until(self, condition: Callable[[], object], timeout_s: float = 8.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not reached: {self.uplink.state}"
            self.poll.wait(min(self.uplink.next_deadline() - time.monotonic(), 0.02))
            self.uplink.tick(time.monotonic())
            self.pump()

    def run_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() >= until)

    def run_until_connected(self, port: int) -> None:
        self.run_until(lambda: self.uplink.state.connected and self.uplink.state.broker == f"127.0.0.1:{port}")

    def pump(self) -> None:
        window = self.uplink.state.window
        assert window >= self._window, "the window went back"
        if window != self._window:
            self._window, self._cursor = window, 0
        for row_id, payload in sorted(self.outbox.items()):
            if row_id > self._cursor and self.uplink.publish(row_id, TOPIC, payload):
                self._cursor = row_id

    def _message_came(self, payload: bytes) -> bool:
        self.received.append(payload)
        return True

    def _delivered(self, row_id: int) -> None:
        self.outbox.pop(row_id, None)

    def _state_told(self, state: LinkState) -> None:
        self.connections.append(state.connected)

    def _tried(self, server: Server, is_reached: bool, reason: str) -> None:
        self.tried.append((server, is_reached, reason))


def at(port: int) -> Server:
    return Server("127.0.0.1", port)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedBroker, EmbeddedBroker]]:
    folder = tmp_path_factory.mktemp("brokers")
    with EmbeddedBroker(folder / "one") as one, EmbeddedBroker(folder / "two") as two:
        yield one, two


@pytest.fixture
def piles() -> Iterator[list[Pile]]:
    made: list[Pile] = []
    yield made
    for pile in made:
        pile.uplink.stop(1.0)
        pile.poll.close()


Brokers = tuple[EmbeddedBroker, EmbeddedBroker]


def test_the_server_set_by_106_goes_before_the_files(brokers: Brokers, piles: list[Pile]) -> None:
    one, two = brokers
    piles.append(Pile(one.port, two.port))
    piles[0].run_until_connected(two.port)


def test_a_trial_does_not_touch_the_link_in_use(brokers: Brokers, piles: list[Pile]) -> None:
    one, two = brokers
    piles.append(pile := Pile(one.port))
    pile.run_until_connected(one.port)
    pile.uplink.try_server(at(two.port))
    pile.run_until(lambda: pile.tried)
    assert pile.tried == [(at(two.port), True, "")]
    assert pile.uplink.state.broker == f"127.0.0.1:{one.port}"
    pile.put(b"still here")
    pile.run_until(lambda: not pile.outbox)
    assert pile.connections == [True]


def test_the_move_says_goodbye_and_takes_along_what_is_not_delivered(brokers: Brokers, piles: list[Pile]) -> None:
    one, two = brokers
    piles.append(pile := Pile(one.port))
    with Platform(one.port) as left, Platform(two.port) as entered:
        pile.run_until_connected(one.port)
        pile.uplink.try_server(at(two.port))
        pile.run_until(lambda: pile.tried)
        pile.uplink.use_server(at(two.port))
        pile.put(b"a", b"b", b"c")
        pile.pump()  # nothing goes over the old link any more
        pile.run_until(lambda: not pile.outbox)
        wait_until(lambda: entered.payloads(TOPIC) == [b"a", b"b", b"c"])
        wait_until(lambda: left.payloads(STATUS)[-1:] == [b"offline"])
        assert left.payloads(TOPIC) == []
    assert pile.connections[-2:] == [False, True]  # so that the caller greets the new broker


def test_a_server_out_of_reach_is_given_up_after_the_trial(brokers: Brokers, piles: list[Pile]) -> None:
    one, _ = brokers
    port = free_port()
    piles.append(pile := Pile(one.port, trial_s=0.3))
    pile.run_until_connected(one.port)
    pile.uplink.try_server(at(port))
    pile.run_until(lambda: pile.tried)
    ((server, is_reached, reason),) = pile.tried
    assert (server, is_reached) == (at(port), False)
    assert f"127.0.0.1:{port}" in reason
    assert pile.uplink.state.connected


def test_the_server_in_use_is_reached_already(brokers: Brokers, piles: list[Pile]) -> None:
    one, _ = brokers
    piles.append(pile := Pile(one.port))
    pile.run_until_connected(one.port)
    pile.uplink.try_server(at(one.port))
    pile.run_until(lambda: pile.tried)
    pile.uplink.use_server(at(one.port))
    pile.put(b"a")
    pile.run_until(lambda: not pile.outbox)
    assert False not in pile.connections  # the connection was never given up


def test_the_same_broker_by_another_name_is_moved_to_without_a_fight(brokers: Brokers, piles: list[Pile]) -> None:
    one, _ = brokers
    piles.append(pile := Pile(one.port))
    pile.run_until_connected(one.port)
    name = Server("localhost", one.port)
    pile.uplink.try_server(name)
    pile.run_until(lambda: pile.tried)
    pile.run_for(0.5)  # the core takes its time; back-off would be over by now
    pile.uplink.use_server(name)
    pile.run_until(lambda: pile.uplink.state.connected and pile.uplink.state.broker.startswith("localhost"))
    assert pile.uplink.state.counters.losses == 0


def test_a_stored_server_out_of_reach_is_left_for_the_files_and_back(tmp_path: Path, piles: list[Pile]) -> None:
    own, stored = EmbeddedBroker(tmp_path / "own"), EmbeddedBroker(tmp_path / "stored")
    with own:
        piles.append(pile := Pile(own.port, stored.port, fallback_s=0.3))
        pile.run_until_connected(own.port)
        pile.put(b"a")
        pile.run_until(lambda: not pile.outbox)
    with stored:
        pile.run_until_connected(stored.port)


def test_without_another_server_the_one_is_tried_for_ever(piles: list[Pile]) -> None:
    piles.append(pile := Pile(free_port(), fallback_s=0.05))
    pile.run_for(0.5)
    assert pile.uplink.state.attempts > 3
