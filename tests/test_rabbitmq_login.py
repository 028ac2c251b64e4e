"""Logging in at a real RabbitMQ: certificates, passwords and rights, and what the pile says of each refusal."""

import logging
from collections.abc import Callable, Iterator

import pytest
from broker_helpers import COMMAND, STATUS, Pile, Platform, config, wait_until
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker
from rabbit_helpers import PILE, Rabbit

from agent.link.config import TlsConfig
from router.piles import queue_of
from sim.rabbit_users import PASSWORD, pile_users

OWN_COMMAND = f"{COMMAND}/{PILE}"
ROUTED = "32010002"  # its rights are those of mode "routed"


@pytest.fixture
def rabbit(rabbitmq: Rabbit) -> Rabbit:
    rabbitmq.forget(queue_of(PILE), queue_of(ROUTED))
    return rabbitmq


@pytest.fixture(scope="module", autouse=True)
def routed_pile(rabbitmq: Rabbit) -> None:
    rabbitmq.broker.define(pile_users([ROUTED]))


@pytest.fixture
def without_exchange(rabbit: Rabbit) -> Iterator[Rabbit]:
    """As a broker is on which nobody has declared the platform's exchange."""
    with rabbit.connection() as connection, connection.channel() as channel:
        channel.exchange_delete("cdz_command_topic_exchange")
        yield rabbit
        channel.exchange_declare("cdz_command_topic_exchange", "topic", durable=True)


def papers(rabbit: Rabbit, name: str, days: int = 30) -> TlsConfig:
    """The certificate of a client with this common name."""
    pair = rabbit.ca.sign(name, f"DNS:{name}", days)
    return TlsConfig(str(rabbit.ca.cert), str(pair.cert), str(pair.key))


def reasons(pile: Pile, count: int = 1) -> list[str]:
    """The first sentences it says, without the broker's name."""
    with pile:
        pile.run_until(lambda: len(pile.reasons) >= count)
    return [
        reason.partition(f":{pile.link.state.broker.rpartition(':')[2]}")[2].lstrip(": ") for reason in pile.reasons
    ][:count]


def test_a_certificate_is_the_login(rabbit: Rabbit) -> None:
    settings = config(rabbit.broker.tls_port, tls=papers(rabbit, PILE))
    with Platform(rabbit.broker.port, "platform", PASSWORD) as platform, Pile(settings) as pile:
        pile.run_until_ready()
        platform.command(b"command")
        pile.put(b"reply")
        pile.run_until(lambda: pile.received == [b"command"] and pile.delivered == [1])
        wait_until(lambda: platform.payloads(STATUS) == [b"online"])


def test_an_expired_certificate(rabbit: Rabbit) -> None:
    pile = Pile(config(rabbit.broker.tls_port, tls=papers(rabbit, PILE, days=-1)))
    assert reasons(pile) == ["it says that our client certificate has expired"]


def test_no_certificate(rabbit: Rabbit) -> None:
    pile = Pile(config(rabbit.broker.tls_port, tls=TlsConfig(str(rabbit.ca.cert))))
    assert reasons(pile) == ["it requires a client certificate and got none"]


def test_a_certificate_of_a_pile_that_is_not_registered(rabbit: Rabbit) -> None:
    pile = Pile(config(rabbit.broker.tls_port, tls=papers(rabbit, "99999999")))
    assert reasons(pile) == ["refused the login (client id 32010001): bad user name or password"]


def test_a_wrong_password_is_said_once(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    with Pile(config(rabbit.broker.port, username=PILE, password="wrong")) as pile:
        pile.run_until(lambda: pile.link.state.counters.dials >= 4)
        in_status = pile.link.state.reason

    expected = (
        f"127.0.0.1:{rabbit.broker.port} refused the login (user 32010001, client id 32010001): "
        "bad user name or password"
    )
    assert in_status == expected
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [expected]


def test_a_login_without_any_name(rabbit: Rabbit) -> None:
    assert reasons(Pile(config(rabbit.broker.port))) == [
        "refused the login (client id 32010001): bad user name or password"
    ]


def test_mqtt_5(rabbit: Rabbit) -> None:
    """3.10 takes the properties of such a CONNECT for its client id."""
    pile = Pile(config(rabbit.broker.port, protocol="5", username=PILE, password=PASSWORD))
    assert reasons(pile) == [
        "closed the connection without answering the login: does it speak MQTT 5? does this port want TLS?"
    ]


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"pile": "32010001", "mode": "routed", "client_id": ROUTED}, f"{COMMAND}/32010001"),  # another's commands
        ({"pile": ROUTED, "mode": "shared", "client_id": ROUTED}, COMMAND),  # everybody's
    ],
)
def test_a_pile_hears_no_commands_but_its_own(rabbit: Rabbit, changes: dict[str, str], topic: str) -> None:
    pile = Pile(config(rabbit.broker.port, username=ROUTED, password=PASSWORD, **changes))
    assert reasons(pile)[0].startswith(f"dropped the connection right after SUBSCRIBE to {topic}")


def test_no_right_to_read_is_told_from_a_missing_exchange(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(rabbit.broker.port, pile=ROUTED, client_id=ROUTED, username=ROUTED, password=PASSWORD)
    with Pile(settings) as pile:
        pile.run_until(lambda: pile.link.state.counters.dials >= 5)

    dropped = f"127.0.0.1:{rabbit.broker.port} dropped the connection right after SUBSCRIBE to klc/command/qik"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{dropped}: usually this user may not read that topic, or the broker's exchange is missing",
        f"{dropped}, though it takes our messages: usually this user may not read that topic, "
        "or may not log in with client id 32010002",
    ]


def test_another_piles_client_id(rabbit: Rabbit) -> None:
    pile = Pile(config(rabbit.broker.port, username=PILE, password=PASSWORD, client_id="32010009"))
    assert reasons(pile, 2)[1].endswith("or may not log in with client id 32010009")


def test_a_missing_exchange(without_exchange: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    port = without_exchange.broker.port
    with Pile(config(port, username=PILE, password=PASSWORD, connect_timeout_s=0.5)) as pile:
        pile.run_until(lambda: pile.link.state.counters.dials >= 5)
        in_status = pile.link.state.reason

    expected = (
        f"127.0.0.1:{port} drops the connection after SUBSCRIBE to klc/command/qik, and takes no message on "
        f"{STATUS} either: usually the broker's exchange is missing"
    )
    assert in_status == expected
    assert [record.getMessage() for record in caplog.records].count(expected) == 1


def test_no_right_to_write(rabbit: Rabbit) -> None:
    """A pile that speaks in another's name."""
    pile = Pile(config(rabbit.broker.port, pile="32010009", username=PILE, password=PASSWORD))
    pile.topic = "klc/reply/qik/32010009"
    topic = "klc/status/qik/32010009"
    assert reasons(pile) == [
        f"dropped the connection right after PUBLISH to {topic}: usually this user may not write that topic"
    ]


def test_two_piles_with_one_client_id(rabbit: Rabbit) -> None:
    settings = config(rabbit.broker.port, username=PILE, password=PASSWORD)
    with Pile(settings) as pile, Pile(settings) as twin:

        def fight() -> bool:
            twin.turn()
            return "another client uses our client id 32010001" in pile.link.state.reason

        pile.run_until(fight)


def test_a_pile_that_speaks_amqp_can_do_no_more_than_by_mqtt(rabbit: Rabbit) -> None:
    """Its certificate, or its password, opens that listener too."""
    exchange, own = "cdz_command_topic_exchange", queue_of(ROUTED)
    parameters = rabbit.parameters(ROUTED)
    attempts: list[Callable[[BlockingChannel], object]] = [
        lambda channel: channel.queue_bind(own, exchange, "#"),
        lambda channel: channel.queue_bind(own, exchange, "klc.command.qik"),
        lambda channel: channel.queue_bind(own, exchange, f"klc.command.qik.{PILE}"),
        lambda channel: channel.exchange_bind(exchange, exchange, "#"),
        lambda channel: channel.queue_declare(queue_of("32010009"), durable=True),
        lambda channel: channel.queue_declare("", exclusive=True),
        lambda channel: channel.basic_get("cdz_unroutable"),
        lambda channel: channel.basic_publish(exchange, "klc.command.qik", b"as the platform"),
        lambda channel: channel.basic_publish(exchange, f"klc.reply.qik.{PILE}", b"as another"),
        lambda channel: channel.basic_publish("", "cdz_unroutable", b"into a queue"),
        lambda channel: channel.queue_delete("cdz_unroutable"),
        lambda channel: channel.exchange_delete(exchange),
    ]
    with BlockingConnection(parameters) as connection:
        for attempt in attempts:
            channel = connection.channel()
            channel.confirm_delivery()
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                attempt(channel)


def test_what_is_retained_comes_to_an_exact_topic_only(rabbit: Rabbit) -> None:
    """A difference: mosquitto gives it to a wildcard too. A platform on AMQP never sees what is retained."""
    with Pile(config(rabbit.broker.port, username=PILE, password=PASSWORD)) as pile:
        pile.run_until(lambda: pile.link.state.connected and pile.link.room == 20)
        with (
            Platform(rabbit.broker.port, "platform", PASSWORD, STATUS) as exact,
            Platform(rabbit.broker.port, "platform", PASSWORD) as wild,
        ):
            pile.run_until(lambda: exact.heard)
            assert [(heard.payload, heard.retain) for heard in exact.heard] == [(b"online", True)]
            assert wild.heard == []
