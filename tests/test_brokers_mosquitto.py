"""The mosquitto configuration that is shipped, as it is, but for ports and folders."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from broker_helpers import COMMAND, REPLY, STATUS, Pile, Platform, config
from certificates import Authority

from agent.link.config import TlsConfig
from sim.broker import ServerTls, ShippedMosquitto

PILE = "32010001"


@dataclass(frozen=True)
class Site:
    broker: ShippedMosquitto
    ca: Authority

    def pile(self, name: str = PILE, days: int = 30, **changes: object) -> Pile:
        """In mode "routed", by the certificate of ``name``."""
        pair = self.ca.sign(name, f"DNS:{name}", days)
        tls = TlsConfig(str(self.ca.cert), str(pair.cert), str(pair.key))
        settings = {"pile": name, "client_id": name, "mode": "routed", "tls": tls, **changes}
        return Pile(config(self.broker.tls_port, **settings))

    def platform(self) -> Platform:
        return Platform(self.broker.port, "platform", "p")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("mosquitto")
    ca = Authority(folder, "ca")
    pair = ca.sign("broker", "DNS:localhost,IP:127.0.0.1")
    users = {"platform": "p", "router": "r"}
    with ShippedMosquitto(folder / "broker", ServerTls(pair.cert, pair.key, ca.cert), users) as broker:
        yield Site(broker, ca)


def test_a_pile_logs_in_by_its_certificate_and_talks_to_the_platform(site: Site) -> None:
    with site.platform() as platform, site.pile() as pile:
        pile.run_until_ready()
        platform.command(b"command", topic=f"{COMMAND}/{PILE}")
        pile.put(b"reply")
        pile.run_until(lambda: pile.received == [b"command"] and platform.payloads(REPLY) == [b"reply"])
        assert platform.payloads(STATUS)[-1] == b"online"


@pytest.mark.parametrize(
    ("changes", "topic"),
    [({"pile": "32010009"}, f"{COMMAND}/32010009"), ({"mode": "shared"}, COMMAND)],
)
def test_a_pile_hears_neither_anothers_commands_nor_everybodys(site: Site, changes: dict[str, str], topic: str) -> None:
    """mosquitto grants the subscription, and then says nothing."""
    with site.platform() as platform, site.pile(**changes) as pile:
        pile.run_until_ready()
        platform.command(b"not for us", topic=topic)
        with site.pile() as other:  # its session takes the first one's over, so what was queued would come
            other.run_until_ready()
            platform.command(b"for us", topic=f"{COMMAND}/{PILE}")
            other.run_until(lambda: other.received)
    assert pile.received == []
    assert other.received == [b"for us"]


def test_a_pile_speaks_in_no_other_name(site: Site) -> None:
    with site.platform() as platform, site.pile(pile="32010009") as liar:
        liar.topic = "klc/reply/qik/32010009"
        liar.put(b"a lie")
        liar.run_until(lambda: liar.delivered)  # 3.1.1 has no word for a refusal
        with site.pile() as pile:
            pile.put(b"the truth")
            pile.run_until(lambda: platform.payloads(REPLY) == [b"the truth"])
    assert platform.payloads("klc/reply/qik/32010009") == []
    assert platform.payloads("klc/status/qik/32010009") == []


def test_a_pile_can_not_take_anothers_session(site: Site) -> None:
    """Its client id is what its certificate says, whatever it claims."""
    with site.pile() as pile, site.pile("32010007", client_id=PILE) as thief:
        pile.run_until_ready()
        thief.run_until_ready()
        for _ in range(20):
            pile.turn()
        assert pile.link.state.counters.losses == 0


def test_an_expired_certificate(site: Site) -> None:
    with site.pile(days=-1) as pile:
        pile.run_until(lambda: pile.reasons)
    assert pile.reasons[0].endswith(": it says that our client certificate has expired")
