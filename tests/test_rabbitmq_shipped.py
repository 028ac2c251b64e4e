"""RabbitMQ on the files of brokers/rabbitmq: what becomes of commands that nobody takes; what outlives kill -9."""

import json
import time
from collections.abc import Iterator

import pytest
from broker_helpers import REPLY, Pile, config
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties
from rabbit_helpers import PILE, Rabbit, depth
from router_helpers import EXCHANGE, KEY, bound_queue, drain

from router.piles import definitions, queue_of
from sim.rabbit_users import PASSWORD, pile_users

UNROUTABLE, DEAD = "cdz_unroutable", "cdz_dead_letters"


@pytest.fixture
def platform(rabbitmq: Rabbit) -> Iterator[BlockingChannel]:
    with rabbitmq.connection() as connection, connection.channel() as channel:
        channel.queue_delete(queue_of(PILE))
        for queue in (UNROUTABLE, DEAD):
            channel.queue_purge(queue)
        rabbitmq.broker.define(definitions([PILE]))
        channel.confirm_delivery()
        yield channel
        channel.queue_delete(queue_of(PILE))


def test_a_command_that_no_queue_takes_is_kept(platform: BlockingChannel) -> None:
    platform.basic_publish(EXCHANGE, f"{KEY}.nobody", b"command")
    method, _, body = platform.basic_get(UNROUTABLE, auto_ack=True)
    assert method is not None
    assert (method.exchange, method.routing_key, body) == (EXCHANGE, f"{KEY}.nobody", b"command")


def test_a_reply_that_no_queue_takes_is_not(platform: BlockingChannel) -> None:
    platform.basic_publish(EXCHANGE, "klc.reply.qik.1", b"reply")
    assert depth(platform, UNROUTABLE) == 0


def test_a_command_that_is_too_old_or_too_many_becomes_a_dead_letter_with_its_story(platform: BlockingChannel) -> None:
    own_key = f"{KEY}.{PILE}"
    platform.basic_publish(EXCHANGE, own_key, b"stale", BasicProperties(expiration="0"))
    for n in range(1001):  # the policy cdz-piles: max-length 1000
        platform.basic_publish(EXCHANGE, own_key, b"%d" % n)
    deadline = time.monotonic() + 8
    while depth(platform, DEAD) < 2:
        assert time.monotonic() < deadline
    story = {}
    for _ in range(2):
        method, properties, body = platform.basic_get(DEAD, auto_ack=True)
        assert method is not None
        assert properties is not None
        story[body] = (method.routing_key, (properties.headers or {})["x-first-death-reason"])
    assert story == {b"stale": (own_key, "expired"), b"0": (own_key, "maxlen")}
    assert depth(platform, queue_of(PILE)) == 1000


def test_registering_a_pile_that_is_online_changes_nothing_for_it(platform: BlockingChannel, rabbitmq: Rabbit) -> None:
    """Its queue is declared with the very arguments that rabbitmq_mqtt declares it with, before and after."""
    rabbitmq.broker.define(pile_users([PILE]))
    settings = config(rabbitmq.broker.port, username=PILE, password=PASSWORD, mode="routed")
    with Pile(settings) as pile:
        pile.run_until_ready()
        rabbitmq.broker.define(pile_users([PILE]))
        platform.basic_publish(EXCHANGE, f"{KEY}.{PILE}", b"command")
        pile.run_until(lambda: pile.received == [b"command"])
        assert pile.link.state.counters.losses == 0
    rabbitmq.broker.define(pile_users([PILE], shared=True))  # as the other tests have it


def test_what_a_pile_was_told_is_taken_outlives_kill_9(rabbitmq: Rabbit) -> None:
    with rabbitmq.connection() as connection:
        bound_queue(connection.channel(), "replies", REPLY.replace("/", "."))
    rows = [b"row %03d" % n for n in range(500)]
    with Pile(config(rabbitmq.broker.port, username=PILE, password=PASSWORD)) as pile:
        pile.put(*rows)
        pile.run_until(lambda: len(pile.delivered) >= 100)
        rabbitmq.broker.kill9()
        rabbitmq.broker.start()
        with rabbitmq.connection() as connection:
            kept = drain(connection.channel(), "replies")
            delivered = rows[: len(pile.delivered)]
            assert kept[: len(delivered)] == delivered
            pile.run_until(lambda: not pile.outbox)
            rest = drain(connection.channel(), "replies")
            connection.channel().queue_delete("replies")
    assert list(dict.fromkeys(kept + rest)) == rows


@pytest.mark.parametrize("count", [1, 200])
def test_the_definitions_of_many_piles_are_as_those_of_one(count: int) -> None:
    numbers = [f"{n:010}" for n in range(count)]
    made = definitions(numbers)
    assert json.loads(json.dumps(made)) == made
    assert [len(made[part]) for part in made] == [count] * 5
