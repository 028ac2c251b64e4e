"""The router over TLS: at a real RabbitMQ by certificate or password, to a real mosquitto; every refusal in words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from broker_helpers import Pile, config, wait_until
from certificates import Authority
from pika.adapters.blocking_connection import BlockingChannel
from rabbit_helpers import PILE, Rabbit, depth
from router_helpers import PARKED, QUEUE, RouterProcess, clean_platform, command, drain, publish

from agent.link.config import TlsConfig
from router.config import load_config
from router.replay import replay
from sim.broker import ServerTls, ShippedMosquitto
from sim.rabbit_users import router_user


@dataclass(frozen=True)
class Papers:
    """PEM files by name, made once: those of clients, each with its key, and of authorities."""

    folder: Path
    ca: Path

    def tls(self, name: str, ca: str = "ca") -> str:
        """Keys of a TLS table: with the certificate of ``name``; "" is none."""
        trusted = self.ca if ca == "ca" else self.folder / f"{ca}.crt"
        pair = f'cert_file = "{self.folder / name}.crt"\nkey_file = "{self.folder / name}.key"' if name else ""
        return f'ca_file = "{trusted}"\n{pair}'


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Rabbit) -> Papers:
    """The common name is the file's name, but of "expired", which says "router"."""
    folder = tmp_path_factory.mktemp("papers")
    other = Authority(folder, "other-ca")
    for name in ("router", "nobody"):
        _move(rabbitmq.ca.sign(name, f"DNS:{name}").cert, folder)
    _move(rabbitmq.ca.sign("expired", "DNS:router", days=-1).cert, folder)
    other.sign("stranger", "DNS:router")
    return Papers(folder, rabbitmq.ca.cert)


def _move(cert: Path, folder: Path) -> None:
    cert.rename(folder / cert.name)
    cert.with_suffix(".key").rename(folder / cert.with_suffix(".key").name)


@pytest.fixture(scope="module", autouse=True)
def known_to_the_broker(rabbitmq: Rabbit) -> None:
    rabbitmq.broker.define(router_user())


@pytest.fixture
def platform(rabbitmq: Rabbit) -> Iterator[BlockingChannel]:
    with clean_platform(rabbitmq) as channel:
        yield channel


def router(rabbitmq: Rabbit, folder: Path, tls: str, output: str = "", **settings: object) -> RouterProcess:
    """At the listener with TLS."""
    more = f"[input.tls]\n{tls}\n{output}"
    return RouterProcess(folder, rabbitmq.broker.amqps_port, more, **settings)


BY_CERTIFICATE = {"username": "", "password": ""}


@pytest.mark.parametrize("settings", [BY_CERTIFICATE, {}], ids=["certificate", "password"])
def test_it_logs_in_and_hands_on_over_tls(
    rabbitmq: Rabbit, platform: BlockingChannel, papers: Papers, tmp_path: Path, settings: dict[str, str]
) -> None:
    lines = [command(PILE, n) for n in range(50)]
    sink = platform.queue_declare("", exclusive=True).method.queue
    platform.queue_bind(sink, "cdz_command_topic_exchange", f"klc.command.qik.{PILE}")
    with router(rabbitmq, tmp_path, papers.tls("router"), **settings) as process:
        publish(platform, [*lines, b"no pile"])
        wait_until(lambda: process.counter("forwarded_total") == 50 and process.parked("no_pile") == 1)
        assert drain(platform, sink) == lines
        assert replay(load_config(process.config).input, PARKED) == 1  # over TLS too
        wait_until(lambda: process.parked("no_pile") == 2)


def said(process: RouterProcess) -> str:
    """Its first warning, without the broker's name; and that it says it once."""
    process.start()
    try:
        wait_until(lambda: "level=warning" in process.log, 20.0)
        wait_until(lambda: process.log.count("level=warning") > 1 or process.is_up())
    finally:
        assert process.stop() == 0
    assert process.log.count("level=warning") == 1
    found = re.search(r'level=warning room=router msg="(?:127\.0\.0\.1|127\.1|localhost):\d+: ([^"]*)"', process.log)
    assert found is not None, process.log
    return found[1]


@pytest.mark.parametrize(
    ("tls", "settings", "words"),
    [
        ("expired", BY_CERTIFICATE, "it says that our client certificate has expired"),
        ("stranger", BY_CERTIFICATE, "it does not know the authority of our client certificate"),
        ("nobody", BY_CERTIFICATE, "refused the login of our certificate: its common name is no user of the broker"),
        ("", {}, "it requires a client certificate and got none"),
        ("router", {"password": "wrong"}, "refused the login of router: a wrong password, or no such user"),
        ("router other-ca", {}, "its certificate comes from an authority that is not in our CA file"),
    ],
)
def test_what_is_refused_is_said_in_words_and_once(
    rabbitmq: Rabbit,
    platform: BlockingChannel,
    papers: Papers,
    tmp_path: Path,
    tls: str,
    settings: dict[str, str],
    words: str,
) -> None:
    # In TLS 1.3 the refusal comes after the handshake, and is lost where our next bytes cross it.
    crossed = "closed the connection before the login: is it AMQP 0-9-1? does it want a client certificate, or another?"
    assert said(router(rabbitmq, tmp_path, papers.tls(*tls.split(" ")), **settings)) in (words, crossed)


def test_a_port_with_tls_one_without_and_a_name_that_is_not_the_brokers(
    rabbitmq: Rabbit, papers: Papers, tmp_path: Path
) -> None:
    amqp, amqps = rabbitmq.broker.amqp_port, rabbitmq.broker.amqps_port
    to_plain = router(rabbitmq, tmp_path, papers.tls("router"), hosts=[f"127.0.0.1:{amqp}"])
    assert said(to_plain) == "this port does not speak TLS"
    by_another_name = router(rabbitmq, tmp_path, papers.tls("router"), hosts=[f"127.1:{amqps}"])
    assert said(by_another_name) == "its certificate is for another host name"
    to_tls = RouterProcess(tmp_path, amqps)
    assert said(to_tls) == "closed the connection before the login: is it AMQP 0-9-1? does this port want TLS?"


# --- to mosquitto ---


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Rabbit) -> Iterator[ShippedMosquitto]:
    pair = rabbitmq.ca.sign("here", "IP:127.0.0.1")  # not for "localhost"
    with ShippedMosquitto(tmp_path_factory.mktemp("m"), ServerTls(pair.cert, pair.key, rabbitmq.ca.cert), {}) as broker:
        yield broker


def to_mqtt(mosquitto: ShippedMosquitto, tls: str, host: str = "127.0.0.1") -> str:
    table = (
        f'[output]\nkind = "mqtt"\n[output.mqtt]\nhost = "{host}"\nport = {mosquitto.tls_port}\nclient_id = "router"\n'
    )
    return f"{table}[output.mqtt.tls]\n{tls}"


def test_both_sides_over_tls_by_certificate(
    rabbitmq: Rabbit, platform: BlockingChannel, mosquitto: ShippedMosquitto, papers: Papers, tmp_path: Path
) -> None:
    pair = rabbitmq.ca.sign(PILE, f"DNS:{PILE}")
    own = TlsConfig(str(papers.ca), str(pair.cert), str(pair.key))
    lines = [command(PILE, n) for n in range(50)]
    output = to_mqtt(mosquitto, papers.tls("router"))
    with (
        router(rabbitmq, tmp_path, papers.tls("router"), output, **BY_CERTIFICATE) as process,
        Pile(config(mosquitto.tls_port, pile=PILE, client_id=PILE, mode="routed", tls=own)) as pile,
    ):
        pile.run_until_ready()
        publish(platform, lines)
        pile.run_until(lambda: len(pile.received) == 50)
        wait_until(lambda: process.counter("forwarded_total") == 50)
    assert pile.received == lines
    assert depth(platform, QUEUE) == 0


@pytest.mark.parametrize(
    ("tls", "host", "words"),
    [
        ("expired", "127.0.0.1", "it says that our client certificate has expired"),
        ("", "127.0.0.1", "it requires a client certificate and got none"),
        ("stranger", "127.0.0.1", "it does not know the authority of our client certificate"),
        ("router", "localhost", "its certificate is for another host name"),
        ("router other-ca", "127.0.0.1", "its certificate comes from an authority that is not in our CA file"),
    ],
)
def test_what_mosquitto_refuses_is_said_in_words_and_once(
    rabbitmq: Rabbit, mosquitto: ShippedMosquitto, papers: Papers, tmp_path: Path, tls: str, host: str, words: str
) -> None:
    output = to_mqtt(mosquitto, papers.tls(*tls.split(" ")), host)
    assert said(RouterProcess(tmp_path, rabbitmq.broker.amqp_port, output)) == words


def test_files_that_can_not_be_used_are_named(rabbitmq: Rabbit, papers: Papers, tmp_path: Path) -> None:
    cert, key = papers.folder / "router.crt", papers.folder / "nobody.key"
    tls = f'ca_file = "{papers.ca}"\ncert_file = "{cert}"\nkey_file = "{key}"'
    process = router(rabbitmq, tmp_path, tls).start()
    wait_until(lambda: "level=warning" in process.log)
    process.stop()
    assert f"cannot use client certificate {cert} with key {key}: not a PEM file of the right kind" in process.log
