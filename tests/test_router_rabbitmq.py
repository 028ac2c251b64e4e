"""The router at a real RabbitMQ: what the platform publishes to one key arrives per pile, in order; nothing is lost."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker_helpers import Pile, config, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from pika.spec import BasicProperties
from rabbit_helpers import Rabbit, depth
from router_helpers import (
    EXCHANGE,
    KEY,
    PARKED,
    QUEUE,
    ROOT,
    RouterProcess,
    bound_queue,
    command,
    drain,
    drain_all,
    number_of,
    pile_of,
    publish,
)

from router.piles import queue_of
from sim.rabbit_users import PASSWORD, pile_users, router_user

PILES = [f"0000{n:04}" for n in range(20)]


@pytest.fixture(scope="module", autouse=True)
def known_to_the_broker(rabbitmq: Rabbit) -> None:
    rabbitmq.broker.define(router_user())
    rabbitmq.broker.define(pile_users(PILES))


@pytest.fixture
def platform(rabbitmq: Rabbit) -> Iterator[BlockingChannel]:
    """The platform's channel; nothing of an earlier test waits anywhere."""
    connection = rabbitmq.connection()
    channel = connection.channel()
    for queue in (QUEUE, PARKED, "sink", "qik_pricechange"):
        channel.queue_delete(queue)
    for queue in (*map(queue_of, PILES), "cdz_unroutable", "cdz_dead_letters"):
        channel.queue_purge(queue)
    yield channel
    with contextlib.suppress(AMQPError):  # of a broker that was killed
        connection.close()


Start = Callable[..., RouterProcess]


@pytest.fixture
def start(rabbitmq: Rabbit, tmp_path: Path, platform: BlockingChannel) -> Iterator[Start]:
    """Starts routers, each until it is connected, and stops them at the end."""
    running: list[RouterProcess] = []

    def run(**settings: object) -> RouterProcess:
        router = RouterProcess(tmp_path, rabbitmq.broker.amqp_port, **settings).start()  # type: ignore[arg-type]
        running.append(router)
        return router.run_until_connected()

    yield run
    for router in running:
        router.__exit__(None, None, None)


def in_order(lines: list[bytes]) -> bool:
    """Whether each pile's first receipts are in the order of their numbers."""
    by_pile: dict[str, list[int]] = {}
    for line in dict.fromkeys(lines):
        by_pile.setdefault(pile_of(line), []).append(number_of(line))
    return all(numbers == sorted(numbers) for numbers in by_pile.values())


def round_robin(count: int, first: int = 0) -> list[bytes]:
    return [command(PILES[n % len(PILES)], n) for n in range(first, first + count)]


# --- handing on ---


def test_each_pile_gets_its_own_commands_and_the_first_consumer_loses_none(
    start: Start, platform: BlockingChannel
) -> None:
    older = bound_queue(platform, "qik_pricechange", KEY)
    router = start()
    lines = round_robin(200)
    publish(platform, lines)
    wait_until(lambda: router.counter("forwarded_total") == 200)

    for number, pile in enumerate(PILES):
        assert drain(platform, queue_of(pile)) == lines[number :: len(PILES)]
    assert drain(platform, older) == lines
    assert router.counter("received_total") == 200
    assert router.counter("in_flight") == 0
    assert depth(platform, QUEUE) == 0


def test_a_pile_that_was_never_online_gets_its_commands_when_it_comes(
    start: Start, platform: BlockingChannel, rabbitmq: Rabbit
) -> None:
    router = start()
    publish(platform, [command(PILES[0], n) for n in range(3)])
    wait_until(lambda: router.counter("forwarded_total") == 3)

    settings = config(
        rabbitmq.broker.port, pile=PILES[0], client_id=PILES[0], username=PILES[0], password=PASSWORD, mode="routed"
    )
    with Pile(settings) as pile:
        pile.run_until(lambda: len(pile.received) == 3)
    assert pile.received == [command(PILES[0], n) for n in range(3)]


def test_what_mqtt_wrote_into_the_headers_is_not_handed_on(start: Start, platform: BlockingChannel) -> None:
    """A platform that publishes at QoS 0 by MQTT would else have RabbitMQ deliver at QoS 0, which loses commands."""
    start()
    marked = BasicProperties(headers={"x-mqtt-publish-qos": 0}, content_type="text/plain", message_id="m1")
    platform.basic_publish(EXCHANGE, KEY, command(PILES[0]), marked)
    wait_until(lambda: depth(platform, queue_of(PILES[0])) == 1)

    _, properties, _ = platform.basic_get(queue_of(PILES[0]), auto_ack=True)
    assert properties is not None
    assert set(properties.headers or {}) == {"x-pile-router"}
    assert (properties.content_type, properties.message_id, properties.delivery_mode) == ("text/plain", "m1", 2)


# --- what can't be handed on ---


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        (b"no commas at all", "no_pile", "no pile number: fewer than four commas"),
        (b"ip,API:2.0.2,100,1,", "bad_pile", "pile number is not 1 to 32 letters, digits, _ or -"),
        (b"ip,API:2.0.2,100,1,a.b", "bad_pile", "pile number is not 1 to 32 letters, digits, _ or -"),
        (b"ip,API:2.0.2,100,1,#", "bad_pile", "pile number is not 1 to 32 letters, digits, _ or -"),
        (b"ip,API:2.0.2,100,1,\xff\xfe", "bad_pile", "pile number is not 1 to 32 letters, digits, _ or -"),
        (b"ip,v,100,1,0001," + b"x" * 65536, "too_long", "longer than 64 KiB"),
    ],
)
def test_what_names_no_pile_is_parked_with_the_reason(
    start: Start, platform: BlockingChannel, line: bytes, reason: str, words: str
) -> None:
    router = start()
    publish(platform, [line, command(PILES[0])])
    wait_until(lambda: router.parked(reason) == 1 and router.counter("forwarded_total") == 1)

    _, properties, body = platform.basic_get(PARKED, auto_ack=True)
    assert body == line
    assert properties is not None
    headers = properties.headers or {}
    assert headers["x-pile-router-reason"] == words
    assert abs(headers["x-pile-router-at"] - time.time()) < 60
    assert depth(platform, QUEUE) == 0


def test_what_a_router_has_handed_on_is_not_handed_on_again(start: Start, platform: BlockingChannel) -> None:
    """Somebody has bound the router's queue to the piles' keys: without a guard one message would go round for ever."""
    router = start()
    platform.queue_bind(QUEUE, EXCHANGE, f"{KEY}.*")
    publish(platform, [command(PILES[0])])
    wait_until(lambda: router.parked("loop") == 1)
    time.sleep(0.2)  # it would go round thousands of times
    assert router.counter("received_total") == 2
    assert depth(platform, queue_of(PILES[0])) == 1


def test_commands_of_a_pile_nobody_has_registered_wait_and_can_be_given_again(
    start: Start, platform: BlockingChannel, rabbitmq: Rabbit
) -> None:
    router = start()
    publish(platform, [command("77770001", n) for n in range(3)])
    wait_until(lambda: depth(platform, "cdz_unroutable") == 3)
    assert router.counter("forwarded_total") == 3  # the alternate exchange took them

    rabbitmq.broker.define(pile_users(["77770001"]))
    replay = [sys.executable, "-m", "router", "replay", "--config", str(router.config), "cdz_unroutable"]
    done = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "3 messages from cdz_unroutable\n"
    wait_until(lambda: depth(platform, queue_of("77770001")) == 3)
    assert drain(platform, queue_of("77770001")) == [command("77770001", n) for n in range(3)]
    platform.queue_delete(queue_of("77770001"))


def test_without_an_alternate_exchange_they_are_parked(
    start: Start, platform: BlockingChannel, rabbitmq: Rabbit
) -> None:
    rabbitmq.broker.ctl("clear_policy", "cdz-commands")
    try:
        router = start()
        publish(platform, [command("77770002")])
        wait_until(lambda: router.parked("no_queue") == 1)
        assert drain(platform, PARKED) == [command("77770002")]
    finally:
        rabbitmq.broker.ctl(
            "set_policy", "cdz-commands", f"^{EXCHANGE}$", '{"alternate-exchange":"cdz_unroutable_exchange"}',
            "--apply-to", "exchanges", "--priority", "10",
        )  # fmt: skip


def test_a_pile_whose_queue_refuses_holds_up_nobody_else_and_keeps_its_order(
    start: Start, platform: BlockingChannel
) -> None:
    platform.queue_delete(queue_of(PILES[0]))
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    bound_queue(platform, queue_of(PILES[0]), f"{KEY}.{PILES[0]}", full)
    router = start()
    lines = round_robin(100)
    publish(platform, lines)
    wait_until(lambda: router.counter("forwarded_total") == 96)  # all of the others', and the first of the full one
    assert router.counter("in_flight") == 4

    received = drain(platform, queue_of(PILES[0]))
    while len(received) < 5:
        received += drain(platform, queue_of(PILES[0]))
    assert received == lines[:: len(PILES)]
    assert router.counter("refused_total") > 0
    bound_queue(platform, queue_of(PILES[0]), f"{KEY}.{PILES[0]}")


def test_what_is_refused_for_too_long_is_parked(start: Start, platform: BlockingChannel) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    bound_queue(platform, queue_of(PILES[0]), f"{KEY}.{PILES[0]}", full)
    router = start(more="[output]\nretry_s = 1")
    publish(platform, [command(PILES[0], 0), command(PILES[0], 1)])
    wait_until(lambda: router.parked("refused") == 1)
    assert drain(platform, PARKED) == [command(PILES[0], 1)]
    bound_queue(platform, queue_of(PILES[0]), f"{KEY}.{PILES[0]}")


# --- two instances, and ends of all kinds ---


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_the_second_instance_takes_over_from_one_that_is_killed(
    start: Start, platform: BlockingChannel, queue_type: str
) -> None:
    sink = bound_queue(platform, "sink", f"{KEY}.*")
    first = start(queue_type=queue_type)
    second = start(queue_type=queue_type)
    lines = round_robin(2000)
    publish(platform, lines)
    wait_until(lambda: first.counter("forwarded_total") > 100, 20.0)
    assert second.counter("received_total") == 0
    first.kill9()

    received = drain_all(platform, sink, lines)
    assert set(received) == set(lines)
    assert in_order(received)
    assert 0 < second.counter("redelivered_total") <= 1000  # not more than the window
    assert len(received) - len(lines) <= second.counter("redelivered_total")


def test_an_instance_that_is_stopped_leaves_nothing_half_done(start: Start, platform: BlockingChannel) -> None:
    sink = bound_queue(platform, "sink", f"{KEY}.*")
    first = start(prefetch=50)
    lines = round_robin(1000)
    publish(platform, lines)
    wait_until(lambda: first.counter("forwarded_total") > 100)
    assert first.stop() == 0
    second = start(prefetch=50)
    received = drain_all(platform, sink, lines)
    wait_until(lambda: second.counter("in_flight") == 0)
    received += drain(platform, sink)
    assert len(received) == len(lines)  # no repetition
    assert in_order(received)


def test_it_finds_a_killed_broker_again_and_says_why_once(
    start: Start, platform: BlockingChannel, rabbitmq: Rabbit
) -> None:
    sink = bound_queue(platform, "sink", f"{KEY}.*")
    router = start()
    lines = [command(pile, n) for n in range(50) for pile in PILES]
    platform.confirm_delivery()
    for line in lines:
        platform.basic_publish(EXCHANGE, KEY, line, BasicProperties(delivery_mode=2))
    rabbitmq.broker.kill9()
    rabbitmq.broker.start()
    wait_until(lambda: router.counter("connections_total") == 2, 20.0)
    with rabbitmq.connection() as connection, connection.channel() as channel:
        received = drain_all(channel, sink, lines)
        channel.queue_delete(sink)

    assert set(received) == set(lines)
    assert in_order(received)
    assert router.counter("losses_total") == 1
    refused = f"127.0.0.1:{rabbitmq.broker.amqp_port}: connection refused, no broker listens there"
    assert router.log.count(refused) == 1


# --- what it says of a broker that does not fit ---


def said(rabbit: Rabbit, folder: Path, **settings: object) -> str:
    """The first warning of a router with these settings, without the broker's name."""
    router = RouterProcess(folder, rabbit.broker.amqp_port, **settings).start()  # type: ignore[arg-type]
    try:
        wait_until(lambda: "level=warning" in router.log)
        return router.log.partition(f"127.0.0.1:{rabbit.broker.amqp_port}: ")[2].partition('"\n')[0]
    finally:
        router.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "wrong"}, "refused the login of router"),
        ({"vhost": "nowhere"}, "vhost nowhere does not exist, or is not for router"),
        ({"exchange": "cdz_typo"}, "NOT_FOUND - no exchange 'cdz_typo' in vhost '/'"),
        ({"queue": "elsewhere"}, "ACCESS_REFUSED - access to queue 'elsewhere' in vhost '/' refused for user 'router'"),
        ({"queue": "cdz_unroutable"}, "ACCESS_REFUSED - access to queue 'cdz_unroutable' in vhost '/' refused"),
        ({"queue_type": "quorum", "queue": "pile_router_other"}, "PRECONDITION_FAILED - inequivalent arg"),
    ],
)
def test_a_broker_that_does_not_fit_is_told_in_words(
    rabbitmq: Rabbit, platform: BlockingChannel, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    platform.queue_declare("pile_router_other", durable=True)
    assert said(rabbitmq, tmp_path, **settings).startswith(words)
    platform.queue_delete("pile_router_other")


def test_a_deleted_queue_is_made_again(start: Start, platform: BlockingChannel) -> None:
    router = start()
    platform.queue_delete(QUEUE)
    wait_until(lambda: router.counter("connections_total") == 2)
    publish(platform, [command(PILES[0])])
    wait_until(lambda: router.counter("forwarded_total") == 1)
    assert f"queue {QUEUE} was deleted" in router.log


def test_a_deleted_parking_queue_is_made_again(start: Start, platform: BlockingChannel) -> None:
    router = start()
    platform.queue_delete(PARKED)
    publish(platform, [b"no pile"])
    wait_until(lambda: router.parked("no_pile") == 1)
    assert drain(platform, PARKED) == [b"no pile"]


def test_a_second_host_is_used_when_the_first_is_not_there(start: Start, rabbitmq: Rabbit) -> None:
    router = start(hosts=["127.0.0.1:1", f"127.0.0.1:{rabbitmq.broker.amqp_port}"])
    assert "127.0.0.1:1: connection refused" in router.log
