"""The main thread's one wait: descriptors, and what other threads post."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from agent.poller import Poller


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


def test_a_callback_is_called_while_its_descriptor_is_ready(poller: Poller) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    poller.register(ours.fileno(), select.EPOLLIN, lambda events: heard.append(ours.recv(10)))
    theirs.send(b"one")
    poller.wait(1)
    poller.wait(0)
    assert heard == [b"one"]


def test_interest_can_be_changed(poller: Poller) -> None:
    ours, _theirs = socket.socketpair()
    seen: list[int] = []
    poller.register(ours.fileno(), select.EPOLLIN, seen.append)
    poller.wait(0)
    poller.modify(ours.fileno(), select.EPOLLIN | select.EPOLLOUT)
    poller.wait(0)
    assert seen == [select.EPOLLOUT]


def test_waiting_ends_in_time(poller: Poller) -> None:
    began_at = time.monotonic()
    poller.wait(0.05)
    poller.wait(-1)  # a deadline that has passed already
    assert 0.05 <= time.monotonic() - began_at < 1


def test_what_another_thread_posts_ends_the_wait_and_runs_here(poller: Poller) -> None:
    ran_in: list[int] = []
    threading.Thread(target=lambda: poller.post(lambda: ran_in.append(threading.get_ident()))).start()
    poller.wait(5)
    assert ran_in == [threading.get_ident()]


def test_posts_run_in_their_order_and_none_is_lost(poller: Poller) -> None:
    ran: list[tuple[int, int]] = []

    def post_many(thread: int) -> None:
        for number in range(500):
            poller.post(partial(ran.append, (thread, number)))

    threads = [threading.Thread(target=post_many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(ran) < 2000 and time.monotonic() < deadline:
        poller.wait(0.05)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [one for thread, one in ran if thread == number] == list(range(500))


def test_what_a_post_posts_waits_for_the_next_round(poller: Poller) -> None:
    """Else two that post each other would keep the descriptors waiting for ever."""
    ran: list[int] = []

    def again() -> None:
        ran.append(len(ran))
        poller.post(again)

    poller.post(again)
    poller.wait(1)
    assert ran == [0]
    poller.wait(1)
    assert ran == [0, 1]


def test_a_callback_may_unregister_another_of_the_same_round(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def only(number: int, other: int) -> None:
        called.append(number)
        poller.unregister(pairs[other][0].fileno())

    for number, (ours, theirs) in enumerate(pairs):
        poller.register(ours.fileno(), select.EPOLLIN, lambda _events, n=number: only(n, 1 - n))
        theirs.send(b"x")
    poller.wait(1)
    assert len(called) == 1


def test_a_closed_descriptor_can_be_unregistered_and_its_number_used_again(poller: Poller) -> None:
    ours, _theirs = socket.socketpair()
    number = ours.fileno()
    poller.register(number, select.EPOLLIN, lambda events: None)
    ours.close()
    poller.unregister(number)
    poller.unregister(number)
    again, other = socket.socketpair()  # gets the number anew
    assert again.fileno() == number
    heard: list[bytes] = []
    poller.register(number, select.EPOLLIN, lambda events: heard.append(again.recv(10)))
    other.send(b"x")
    poller.wait(1)
    assert heard == [b"x"]
