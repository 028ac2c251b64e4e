"""Three nodes on brokers/rabbitmq/cluster.conf: one of them is killed, and nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from broker_helpers import Pile, config, wait_until
from pika.spec import BasicProperties
from rabbit_helpers import PILE, Rabbit, depth
from router_helpers import EXCHANGE, KEY, QUEUE, RouterProcess, command

from router.piles import queue_of
from sim.broker import ServerTls
from sim.rabbit_cluster import RabbitCluster
from sim.rabbit_users import PASSWORD, master, pile_users, router_user
from sim.rabbitmq import RabbitMq


@pytest.fixture
def nodes(tmp_path: Path, rabbitmq: Rabbit) -> Iterator[list[RabbitMq]]:
    pair = rabbitmq.ca.sign("cluster", "IP:127.0.0.1")
    with RabbitCluster(tmp_path, ServerTls(pair.cert, pair.key, rabbitmq.ca.cert)) as cluster:
        yield cluster.nodes


def until_nothing_comes(pile: Pile, most_s: float) -> None:
    """All 300, or none for so long."""
    count, since = 0, time.monotonic()
    while len(set(pile.received)) < 300 and time.monotonic() - since < most_s:
        pile.turn()
        if len(pile.received) > count:
            count, since = len(pile.received), time.monotonic()


def test_a_node_with_the_leaders_is_killed_mid_stream(nodes: list[RabbitMq], tmp_path: Path) -> None:
    first, second, third = nodes
    for definitions in (master("platform"), router_user(), pile_users([PILE], quorum=True)):
        first.define(definitions)
    for node in (second, third):
        first.tool("rabbitmq-queues", "grow", node.node, "all", "--queue-pattern", "^cdz_")
    queues = second.ctl("list_queues", "name", "members")
    for queue in (queue_of(PILE), "cdz_unroutable", "cdz_dead_letters"):
        members = queues.partition(queue)[2].splitlines()[0]
        assert all(node.node in members for node in nodes), queue

    lines = [command(PILE, n) for n in range(300)]
    hosts = [f"127.0.0.1:{node.amqp_port}" for node in nodes]
    parameters = pika.ConnectionParameters(
        "127.0.0.1", third.amqp_port, credentials=pika.PlainCredentials("platform", PASSWORD)
    )
    with RouterProcess(tmp_path, 0, hosts=hosts, queue_type="quorum") as router:
        with pika.BlockingConnection(parameters) as connection, connection.channel() as channel:
            channel.confirm_delivery()
            for line in lines:
                if line == lines[150]:
                    first.kill9()
                channel.basic_publish(EXCHANGE, KEY, line, BasicProperties(delivery_mode=2))
            wait_until(lambda: depth(channel, QUEUE) == 0 and router.counter("in_flight") == 0, 30.0)
        assert router.counter("connections_total") in (2, 3)  # a channel may have found a leader that had just died

    settings = config(third.port, pile=PILE, client_id=PILE, username=PILE, password=PASSWORD, mode="routed")
    with Pile(settings) as pile:
        until_nothing_comes(pile, 10.0)
        if (
            len(set(pile.received)) < 300
        ):  # twice in some twenty runs RabbitMQ 3.10 left a consumer standing in mid-queue
            pile.cut()
        pile.run_until(lambda: len(set(pile.received)) == 300, 20.0)
    assert list(dict.fromkeys(pile.received)) == lines
