"""Three nodes on brokers/rabbitmq/cluster.conf: one of them is killed, and nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from broker_helpers import Pile, config, wait_until
from pika.spec import BasicProperties
from rabbit_helpers import PILE, Rabbit
from router_helpers import EXCHANGE, KEY, RouterProcess, command

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
    settings = config(third.port, pile=PILE, client_id=PILE, username=PILE, password=PASSWORD, mode="routed")
    with RouterProcess(tmp_path, 0, hosts=hosts, queue_type="quorum") as router:
        with pika.BlockingConnection(parameters) as connection, connection.channel() as channel:
            channel.confirm_delivery()
            for line in lines:
                if line == lines[150]:
                    first.kill9()
                channel.basic_publish(EXCHANGE, KEY, line, BasicProperties(delivery_mode=2))
        with Pile(settings) as pile:
            pile.run_until(lambda: len(set(pile.received)) == 300, 30.0)
        wait_until(lambda: router.counter("in_flight") == 0)
        assert router.counter("connections_total") in (2, 3)  # a channel may have found a leader that had just died
    assert list(dict.fromkeys(pile.received)) == lines
