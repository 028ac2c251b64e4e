"""Three nodes on brokers/rabbitmq/cluster.conf: one of them is killed, and nothing is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from broker_helpers import Pile, config, wait_until
from pika.spec import BasicProperties
from rabbit_helpers import PASSWORD, PILE, Rabbit, depth, master, users
from router_helpers import EXCHANGE, KEY, QUEUE, RouterProcess, command, router_user

from router.piles import queue_of
from sim.broker import SHIPPED, ServerTls, shipped_config
from sim.rabbitmq import RabbitMq

NODES = ("pile1", "pile2", "pile3")


@pytest.fixture
def nodes(tmp_path: Path, rabbitmq: Rabbit) -> Iterator[list[RabbitMq]]:
    pair = rabbitmq.ca.sign("cluster", "IP:127.0.0.1")
    tls = ServerTls(pair.cert, pair.key, rabbitmq.ca.cert)
    text = (SHIPPED / "rabbitmq" / "cluster.conf").read_text()
    lines = shipped_config(text, {f"rabbit@broker{n}": f"pile{n}@localhost" for n in (1, 2, 3)}).splitlines()
    first = RabbitMq(tmp_path / "pile1", tls, lines, name="pile1")
    others = [RabbitMq(tmp_path / name, tls, lines, name=name, beside=first) for name in NODES[1:]]
    try:
        first.start()
        starts = [threading.Thread(target=node.start) for node in others]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        yield [first, *others]
    finally:
        for node in (*others, first):
            node.kill9()
        first.stop()


def test_a_node_with_the_leaders_is_killed_mid_stream(nodes: list[RabbitMq], tmp_path: Path) -> None:
    first, second, third = nodes
    for definitions in (master("platform"), router_user(), users([PILE], quorum=True)):
        first.define(definitions)
    members = second.ctl("list_queues", "name", "members").partition(queue_of(PILE))[2].splitlines()[0]
    assert all(name in members for name in NODES)

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
        assert router.counter("connections_total") == 2

    settings = config(third.port, pile=PILE, client_id=PILE, username=PILE, password=PASSWORD, mode="routed")
    with Pile(settings) as pile:
        pile.run_until(lambda: len(set(pile.received)) == 300, 20.0)
    assert list(dict.fromkeys(pile.received)) == lines
