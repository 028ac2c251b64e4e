"""What several test files share for the time of a session."""

from collections.abc import Iterator
from typing import Any

import pytest
from certificates import Authority
from hypothesis import settings
from rabbit_helpers import PILE, Rabbit

from sim.broker import ServerTls
from sim.rabbit_users import master, pile_users
from sim.rabbitmq import RabbitMq

settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("untimed")

LONGEST = (
    "rabbitmq",
    "tests/test_dist.py",
    "tests/test_brokers_page.py",
    "tests/test_payload.py",
    "tests/test_slots_kills.py",
    "tests/test_flash_board.py",
    "tests/test_agent_update_release.py",
)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ for all tests, as its start takes some 10 s: each test clears away what it finds."""
    folder = tmp_path_factory.mktemp("rabbitmq")
    ca = Authority(folder, "ca")
    pair = ca.sign("broker", "DNS:localhost,IP:127.0.0.1")
    with RabbitMq(folder / "broker", ServerTls(pair.cert, pair.key, ca.cert)) as broker:
        broker.define(master("platform"))
        broker.define(pile_users([PILE], shared=True))
        yield Rabbit(broker, ca)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first, so that with several processes (-n) one is not left over at the end."""
    order = {part: number for number, part in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(_part(item.nodeid), len(order)))


@pytest.hookimpl(optionalhook=True)  # a hook of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs a file, as its tests share fixtures, and one runs all that is on RabbitMQ: a node is costly."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _part(nodeid)

    return ByPart(config, log)


def _part(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    is_on_rabbitmq = file.startswith(("tests/test_rabbitmq_", "tests/test_router_")) or "[rabbitmq" in nodeid
    return "rabbitmq" if is_on_rabbitmq else file
