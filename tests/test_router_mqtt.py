"""The router's other output: a real mosquitto, MQTT 5, while its input is RabbitMQ."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_helpers import Pile, Platform, config, wait_until
from certificates import Authority
from pika.adapters.blocking_connection import BlockingChannel
from rabbit_helpers import Rabbit, depth
from router_helpers import PARKED, QUEUE, RouterProcess, clean_platform, command, drain, publish

from agent.link.config import TlsConfig
from sim.broker import ServerTls, ShippedMosquitto
from sim.rabbit_users import router_user

PILE = "32010001"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture
def mosquitto(tmp_path: Path, ca: Authority) -> Iterator[ShippedMosquitto]:
    pair = ca.sign("broker", "DNS:localhost,IP:127.0.0.1")
    users = {"platform": "p", "router": "right"}
    with ShippedMosquitto(tmp_path / "mosquitto", ServerTls(pair.cert, pair.key, ca.cert), users) as broker:
        yield broker


@pytest.fixture(scope="module", autouse=True)
def known_to_the_broker(rabbitmq: Rabbit) -> None:
    rabbitmq.broker.define(router_user())


@pytest.fixture
def platform(rabbitmq: Rabbit) -> Iterator[BlockingChannel]:
    with clean_platform(rabbitmq) as channel:
        yield channel


def router(rabbitmq: Rabbit, folder: Path, port: int, password: str = "right") -> RouterProcess:
    output = f'[output]\nkind = "mqtt"\n[output.mqtt]\nport = {port}\nusername = "router"\npassword = "{password}"'
    return RouterProcess(folder, rabbitmq.broker.amqp_port, output)


def pile(mosquitto: ShippedMosquitto, ca: Authority, name: str = PILE) -> Pile:
    pair = ca.sign(name, f"DNS:{name}")
    tls = TlsConfig(str(ca.cert), str(pair.cert), str(pair.key))
    return Pile(config(mosquitto.tls_port, pile=name, client_id=name, mode="routed", tls=tls))


def test_each_pile_gets_its_own_commands_in_order(
    rabbitmq: Rabbit, platform: BlockingChannel, mosquitto: ShippedMosquitto, ca: Authority, tmp_path: Path
) -> None:
    lines = [command(PILE, n) for n in range(200)]
    others = [command("32010002", n) for n in range(200)]
    with (
        router(rabbitmq, tmp_path, mosquitto.port) as process,
        pile(mosquitto, ca) as one,
        pile(mosquitto, ca, "32010002") as other,
    ):
        one.run_until_ready()
        other.run_until_ready()
        publish(platform, [line for pair in zip(lines, others, strict=True) for line in pair])
        one.run_until(lambda: len(one.received) == 200, 20.0)
        other.run_until(lambda: len(other.received) == 200, 20.0)
        wait_until(lambda: process.counter("in_flight") == 0)
        assert process.counter("forwarded_total") == 400
    assert one.received == lines
    assert other.received == others
    assert depth(platform, QUEUE) == 0


def test_what_is_for_a_pile_that_was_never_there_is_parked_and_can_be_given_again(
    rabbitmq: Rabbit, platform: BlockingChannel, mosquitto: ShippedMosquitto, ca: Authority, tmp_path: Path
) -> None:
    """MQTT 5 has a word for it: no matching subscribers. A pile that is only away has a session, and gets it later."""
    from router.config import load_config
    from router.replay import replay

    with router(rabbitmq, tmp_path, mosquitto.port) as process:
        publish(platform, [command(PILE, n) for n in range(3)])
        wait_until(lambda: process.parked("no_session") == 3)
        with pile(mosquitto, ca) as first:
            first.run_until_ready()
        assert replay(load_config(process.config).input, PARKED) == 3
        wait_until(lambda: process.counter("forwarded_total") == 3)
    with pile(mosquitto, ca) as again:
        again.run_until(lambda: len(again.received) == 3)
    assert again.received == [command(PILE, n) for n in range(3)]
    assert drain(platform, PARKED) == []


def test_while_the_output_is_away_commands_stay_in_the_queue_for_any_instance(
    rabbitmq: Rabbit, platform: BlockingChannel, mosquitto: ShippedMosquitto, ca: Authority, tmp_path: Path
) -> None:
    with router(rabbitmq, tmp_path, mosquitto.port) as process, pile(mosquitto, ca) as one:
        one.run_until_ready()
        mosquitto.kill9()
        wait_until(lambda: process.counter("connected") == 0)
        publish(platform, [command(PILE, n) for n in range(50)])
        wait_until(lambda: depth(platform, QUEUE) == 50)
        mosquitto.start()
        one.run_until(lambda: len(set(one.received)) == 50, 20.0)
        assert f"127.0.0.1:{mosquitto.port}: " in process.log
    assert list(dict.fromkeys(one.received)) == [command(PILE, n) for n in range(50)]


def test_a_refused_login_is_said_in_words(
    rabbitmq: Rabbit, platform: BlockingChannel, mosquitto: ShippedMosquitto, tmp_path: Path
) -> None:
    process = router(rabbitmq, tmp_path, mosquitto.port, password="wrong").start()
    wait_until(lambda: "level=warning" in process.log)
    assert f"127.0.0.1:{mosquitto.port}: refused the login: Not authorized" in process.log
    assert process.stop() == 0


def test_a_platform_at_mosquitto_hears_the_replies(
    mosquitto: ShippedMosquitto, ca: Authority, rabbitmq: Rabbit, tmp_path: Path
) -> None:
    with Platform(mosquitto.port, "platform", "p") as platform, pile(mosquitto, ca) as one:
        one.put(b"reply")
        one.run_until(lambda: platform.payloads(f"klc/reply/qik/{PILE}") == [b"reply"])
