"""TLS with a real mosquitto: what passes, and what each broken certificate is called."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from broker_helpers import CONNECT, PUBLISH, SUBSCRIBE, Answer, Pile, ScriptedBroker, config, puback
from certificates import Authority, KeyPair

from agent.link.config import TlsConfig
from agent.reach import alert
from sim.broker import Mosquitto, ServerTls

HERE = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Papers:
    """Certificates, made once: two authorities that do not know each other and what they signed."""

    ca: Authority
    other_ca: Authority
    broker: KeyPair
    expired_broker: KeyPair
    elsewhere_broker: KeyPair
    pile: KeyPair
    expired_pile: KeyPair
    stranger: KeyPair


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    ca, other_ca = Authority(folder, "ca"), Authority(folder, "other-ca")
    return Papers(
        ca=ca,
        other_ca=other_ca,
        broker=ca.sign("broker", HERE),
        expired_broker=ca.sign("expired-broker", HERE, days=-1),
        elsewhere_broker=ca.sign("elsewhere", "DNS:broker.example"),
        pile=ca.sign("32010001", "DNS:32010001"),
        expired_pile=ca.sign("expired-pile", "DNS:32010001", days=-1),
        stranger=other_ca.sign("stranger", "DNS:32010001"),
    )


StartTls = Callable[..., Mosquitto]


@pytest.fixture
def start(tmp_path: Path, papers: Papers) -> Iterator[StartTls]:
    """Starts a mosquitto that shows the key pair given, and asks for client certificates of our authority or not."""
    brokers: list[Mosquitto] = []

    def run(pair: KeyPair, asks_client: bool = False) -> Mosquitto:
        tls = ServerTls(pair.cert, pair.key, papers.ca.cert if asks_client else None)
        brokers.append(Mosquitto(tmp_path, tls=tls))
        return brokers[0].start()

    yield run
    for broker in brokers:
        broker.stop()


def trusting(authority: Authority, pair: KeyPair | None = None) -> TlsConfig:
    cert, key = (str(pair.cert), str(pair.key)) if pair else (None, None)
    return TlsConfig(str(authority.cert), cert, key)


def reason(broker: Mosquitto, tls: TlsConfig | None, host: str = "127.0.0.1") -> str:
    with Pile(config(broker.port, host=host, tls=tls)) as pile:
        pile.run_until(lambda: pile.reasons)
    return pile.reasons[0].removeprefix(f"{host}:{broker.port}").lstrip(": ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_commands_and_rows_pass_through_tls(start: StartTls, papers: Papers, host: str) -> None:
    broker = start(papers.broker)
    rows = [b"x" * 30_000 + b"%d" % n for n in range(40)]  # more than the socket and a TLS record hold
    with Pile(config(broker.port, host=host, tls=trusting(papers.ca))) as pile:
        pile.topic = "klc/command/qik"  # what it says comes back as commands
        pile.put(*rows)
        pile.run_until(lambda: not pile.outbox and len(pile.received) == 40)

    assert pile.received == rows


def test_a_client_certificate_logs_in(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker, asks_client=True)
    with Pile(config(broker.port, tls=trusting(papers.ca, papers.pile))) as pile:
        pile.run_until_ready()


def test_messages_in_one_tls_record_are_all_read(papers: Papers) -> None:
    """The poller sees one readable socket; after the first packet the rest is inside OpenSSL, where it sees nothing."""
    message = "32 14 00 0f 6b 6c 63 2f 63 6f 6d 6d 61 6e 64 2f 71 69 6b 00 07"
    commands = bytes.fromhex(f"{message} 61 {message} 62 {message} 63")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.broker.cert, papers.broker.key)
    answers: dict[int, Answer] = {
        CONNECT: bytes.fromhex("20 02 00 00"),
        SUBSCRIBE: bytes.fromhex("90 03 00 01 01"),
        PUBLISH: lambda packet: puback(packet) + commands,
    }
    with ScriptedBroker(answers, tls=context) as broker, Pile(config(broker.port, tls=trusting(papers.ca))) as pile:
        pile.run_until(lambda: pile.received == [b"a", b"b", b"c"])


def test_a_long_queue_passes_through_tls_in_order(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker)
    tls = trusting(papers.ca)
    with Pile(config(broker.port, tls=tls)) as pile:
        pile.run_until_ready()
    with Pile(config(broker.port, tls=tls, client_id="sender", window=200)) as sender:
        sender.topic = "klc/command/qik"
        sender.put(*[b"%d" % n for n in range(200)])
        sender.run_until(lambda: not sender.outbox)

    with Pile(config(broker.port, tls=tls)) as pile:
        pile.run_until(lambda: len(pile.received) == 200)

    assert pile.received == [b"%d" % n for n in range(200)]


def test_an_expired_broker_certificate(start: StartTls, papers: Papers) -> None:
    broker = start(papers.expired_broker)
    assert reason(broker, trusting(papers.ca)) == "its certificate has expired, or our clock is wrong"


def test_an_unknown_authority(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker)
    expected = "its certificate comes from an authority that is not in our CA file"
    assert reason(broker, trusting(papers.other_ca)) == expected


def test_a_certificate_for_another_host(start: StartTls, papers: Papers) -> None:
    broker = start(papers.elsewhere_broker)
    assert reason(broker, trusting(papers.ca)) == "its certificate is for another IP address"
    assert reason(broker, trusting(papers.ca), "localhost") == "its certificate is for another host name"


def test_a_missing_client_certificate(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker, asks_client=True)
    assert reason(broker, trusting(papers.ca)) == "it requires a client certificate and got none"


def test_tls_1_2_says_so_less_clearly() -> None:
    text = "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)"
    assert alert(text) == "it refused the TLS handshake: usually it requires a client certificate"


def test_an_expired_client_certificate(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker, asks_client=True)
    expected = "it says that our client certificate has expired"
    assert reason(broker, trusting(papers.ca, papers.expired_pile)) == expected


def test_a_client_certificate_of_an_authority_the_broker_does_not_know(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker, asks_client=True)
    expected = "it does not know the authority of our client certificate"
    assert reason(broker, trusting(papers.ca, papers.stranger)) == expected


def test_tls_to_a_port_without(papers: Papers, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        expected = "it closed the connection during the TLS handshake: does this port speak TLS?"
        assert reason(broker, trusting(papers.ca)) == expected


def test_no_tls_to_a_port_with(start: StartTls, papers: Papers) -> None:
    broker = start(papers.broker)
    expected = "closed the connection without answering the login: does this port want TLS?"
    assert reason(broker, None) == expected


def test_files_that_cannot_be_used_are_named(papers: Papers, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not PEM")
    ca = str(papers.ca.cert)
    with Mosquitto(tmp_path) as broker:
        assert reason(broker, TlsConfig("/no/ca.pem")) == "cannot use CA file /no/ca.pem: No such file or directory"
        assert (
            reason(broker, TlsConfig(str(garbage))) == f"cannot use CA file {garbage}: not a PEM file of the right kind"
        )
        assert reason(broker, TlsConfig(ca, str(garbage))) == (
            f"cannot use client certificate {garbage} with key {garbage}: not a PEM file of the right kind"
        )
        assert reason(broker, TlsConfig(ca, str(papers.pile.cert), str(papers.broker.key))) == (
            f"cannot use client certificate {papers.pile.cert} with key {papers.broker.key}: "
            "not a PEM file of the right kind"
        )


def test_a_renewed_certificate_is_used_at_the_next_dial(start: StartTls, papers: Papers, tmp_path: Path) -> None:
    broker = start(papers.broker)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(papers.other_ca.cert.read_bytes())
    with Pile(config(broker.port, tls=TlsConfig(str(ca_file)))) as pile:
        pile.run_until(lambda: pile.reasons)
        ca_file.write_bytes(papers.ca.cert.read_bytes())
        pile.run_until_ready()
