"""What several test files share for the time of a session."""

from collections.abc import Iterator

import pytest
from certificates import Authority
from rabbit_helpers import PILE, Rabbit, master, users

from sim.broker import ServerTls
from sim.rabbitmq import RabbitMq


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ for all tests, as its start takes some 10 s: each test clears away what it finds."""
    folder = tmp_path_factory.mktemp("rabbitmq")
    ca = Authority(folder, "ca")
    pair = ca.sign("broker", "DNS:localhost,IP:127.0.0.1")
    with RabbitMq(folder / "broker", ServerTls(pair.cert, pair.key, ca.cert)) as broker:
        broker.define(master("platform"))
        broker.define(users([PILE], shared=True))
        yield Rabbit(broker, ca)
