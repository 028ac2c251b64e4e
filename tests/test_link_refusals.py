"""All that a broker can refuse, said in one sentence: literal packets from a scripted broker, and a real mosquitto."""

import json
import logging
import os
import signal
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import pbkdf2_hmac
from pathlib import Path

import pytest
from broker_helpers import (
    CLOSE,
    COMMAND,
    CONNECT,
    PUBLISH,
    REPLY,
    STATUS,
    SUBSCRIBE,
    Answer,
    Pile,
    Platform,
    ScriptedBroker,
    config,
    puback,
)

from sim.broker import Mosquitto, free_port

ACCEPTED = bytes.fromhex("20 02 00 00")
ACCEPTED_V5 = bytes.fromhex("20 03 00 00 00")
GRANTED = bytes.fromhex("90 03 00 01 01")
GRANTED_V5 = bytes.fromhex("90 04 00 01 00 01")

LOGIN = "refused the login (client id 32010001): "
SUBSCRIPTION = "refused the subscription to klc/command/qik: "


def first_reason(pile: Pile, broker_name: str) -> str:
    """What the link says first, without the broker's name that it must start with."""
    pile.stop_s = 0.1  # a scripted broker takes no leave
    with pile:
        pile.run_until(lambda: pile.reasons)
    assert pile.reasons[0].startswith(broker_name)
    return pile.reasons[0].removeprefix(broker_name).lstrip(": ")


@pytest.mark.parametrize(
    ("connack", "sentence"),
    [
        ("20 02 00 02", LOGIN + "it does not accept this client id"),
        ("20 02 00 03", LOGIN + "it is up but not available"),
        ("20 02 00 04", LOGIN + "bad user name or password"),
        ("20 02 00 05", LOGIN + "not authorised (a wrong password, or this user may not connect)"),
        ("20 02 00 01", "does not speak MQTT 3.1.1, or is no MQTT broker"),
        ("20 02 00 63", LOGIN + "unspecified error"),  # a code that 3.1.1 does not know
        ("20 05 00 00 00 00 00", "does not speak MQTT 3.1.1, or is no MQTT broker"),
        ("f0 00", "does not speak MQTT 3.1.1, or is no MQTT broker"),
    ],
)
def test_refused_logins_of_mqtt_3_1_1(connack: str, sentence: str) -> None:
    with ScriptedBroker({CONNECT: bytes.fromhex(connack)}) as broker:
        assert first_reason(Pile(config(broker.port)), f"127.0.0.1:{broker.port}") == sentence


@pytest.mark.parametrize(
    ("connack", "sentence"),
    [
        ("20 03 00 86 00", LOGIN + "bad user name or password"),
        ("20 03 00 87 00", LOGIN + "not authorised (a wrong password, or this user may not connect)"),
        ("20 03 00 85 00", LOGIN + "it does not accept this client id"),
        ("20 03 00 89 00", LOGIN + "server busy"),
        ("20 09 00 8a 06 1f 00 03 66 65 65", LOGIN + 'banned ("fee")'),  # with a reason string
        ("20 09 00 8a 06 1f 00 03 1b 5b 6d", LOGIN + 'banned ("[m")'),  # whose control characters stay out
        ("20 03 00 84 00", "does not speak MQTT 5"),
        ("20 02 00 01", "does not speak MQTT 5"),  # what RabbitMQ 3.10 answers
    ],
)
def test_refused_logins_of_mqtt_5(connack: str, sentence: str) -> None:
    with ScriptedBroker({CONNECT: bytes.fromhex(connack)}) as broker:
        pile = Pile(config(broker.port, protocol="5"))
        assert first_reason(pile, f"127.0.0.1:{broker.port}") == sentence


@pytest.mark.parametrize(
    ("suback", "sentence"),
    [
        ("90 03 00 01 80", SUBSCRIPTION + "usually this user may not read that topic"),
        ("90 03 00 01 00", SUBSCRIPTION + "it grants QoS 0 only, which loses commands"),
        (
            "",
            "dropped the connection right after SUBSCRIBE to klc/command/qik: "
            "usually this user may not read that topic, or the broker's exchange is missing",
        ),
        ("f0 00", "sent something that is not MQTT 3.1.1"),
    ],
)
def test_refused_subscriptions_of_mqtt_3_1_1(suback: str, sentence: str) -> None:
    answer = bytes.fromhex(suback) if suback else CLOSE
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: answer}) as broker:
        assert first_reason(Pile(config(broker.port)), f"127.0.0.1:{broker.port}") == sentence


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({SUBSCRIBE: bytes.fromhex("90 04 00 01 00 87")}, SUBSCRIPTION + "not authorized"),
        (
            {SUBSCRIBE: GRANTED_V5, PUBLISH: bytes.fromhex("e0 02 8e 00")},
            "another client logged in with our client id 32010001 and took the session over",
        ),
        ({SUBSCRIBE: GRANTED_V5, PUBLISH: bytes.fromhex("e0 02 8b 00")}, "ended the connection: server shutting down"),
        (
            {SUBSCRIBE: GRANTED_V5, PUBLISH: bytes.fromhex("40 04 00 02 87 00")},
            f"refused a message on {STATUS}: not authorized",
        ),
    ],
)
def test_what_mqtt_5_has_words_for(answers: dict[int, Answer], sentence: str) -> None:
    with ScriptedBroker({CONNECT: ACCEPTED_V5, **answers}) as broker:
        pile = Pile(config(broker.port, protocol="5"))
        assert first_reason(pile, f"127.0.0.1:{broker.port}") == sentence


@pytest.mark.parametrize(
    ("to_a_message", "sentence"),
    [
        (
            puback,
            "dropped the connection right after SUBSCRIBE to klc/command/qik, though it takes our messages: "
            "usually this user may not read that topic, or may not log in with client id 32010001",
        ),
        (
            CLOSE,
            f"drops the connection after SUBSCRIBE to klc/command/qik, and takes no message on {STATUS} either: "
            "usually the broker's exchange is missing",
        ),
        (
            b"",  # it swallows the message
            f"drops the connection after SUBSCRIBE to klc/command/qik, and takes no message on {STATUS} either: "
            "usually the broker's exchange is missing",
        ),
    ],
)
def test_after_a_drop_at_subscribe_a_message_tells_why(to_a_message: Answer, sentence: str) -> None:
    """RabbitMQ 3.10 has no other word. The guess is said once, then the finding once, however long it goes on."""
    with (
        ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: CLOSE, PUBLISH: to_a_message}) as broker,
        Pile(config(broker.port, connect_timeout_s=0.2)) as pile,
    ):
        pile.stop_s = 0.1
        pile.run_until(lambda: pile.link.state.counters.dials >= 5)
        reasons = [reason.removeprefix(f"127.0.0.1:{broker.port} ") for reason in pile.reasons]

    assert reasons[1:] == [sentence]
    probes = [packet for packet in broker.packets if packet[0] >> 4 == PUBLISH]
    assert probes
    assert {packet[4 + len(STATUS) + 2 :] for packet in probes} == {b"offline"}


def test_a_probed_connection_that_is_granted_is_ready_and_nothing_is_wrong_any_more() -> None:
    seen: list[bytes] = []

    def drop_then_grant(packet: bytes) -> bytes:
        seen.append(packet)
        if len(seen) == 1:
            raise ConnectionError  # closes the connection
        return b"\x90\x03" + packet[2:4] + b"\x01"

    answers: dict[int, Answer] = {CONNECT: ACCEPTED, PUBLISH: puback, SUBSCRIBE: drop_then_grant}
    with ScriptedBroker(answers) as broker, Pile(config(broker.port)) as pile:
        pile.run_until(lambda: pile.link.state.connected and pile.link.room == 20)
        assert pile.link.state.reason == ""
        said = [packet[4 + len(STATUS) + 2 :] for packet in broker.packets if packet[0] >> 4 == PUBLISH]
        assert said == [b"offline", b"online"]


def test_a_broker_that_closes_before_it_answers_the_login() -> None:
    with ScriptedBroker({CONNECT: CLOSE}) as broker:
        sentence = first_reason(Pile(config(broker.port)), f"127.0.0.1:{broker.port}")
    assert sentence == "closed the connection without answering the login: does this port want TLS?"


def test_a_broker_that_never_answers_the_login() -> None:
    with ScriptedBroker({}) as broker:
        pile = Pile(config(broker.port, connect_timeout_s=0.2))
        sentence = first_reason(pile, f"127.0.0.1:{broker.port}")
    assert sentence == "took the connection but did not answer the login in 0.2 s"


def test_a_broker_that_never_answers_the_subscription() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED}) as broker:
        pile = Pile(config(broker.port, connect_timeout_s=0.2))
        sentence = first_reason(pile, f"127.0.0.1:{broker.port}")
    assert sentence == "did not answer the subscription to klc/command/qik in 0.2 s"


def test_a_broker_that_drops_the_connection_at_the_first_publish() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: GRANTED, PUBLISH: CLOSE}) as broker:
        sentence = first_reason(Pile(config(broker.port)), f"127.0.0.1:{broker.port}")
    assert sentence == (
        f"dropped the connection right after PUBLISH to {STATUS}: usually this user may not write that topic"
    )


def test_a_broker_that_never_acknowledges_is_given_up() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: GRANTED}) as broker:
        pile = Pile(config(broker.port, delivery_timeout_s=0.2))
        sentence = first_reason(pile, f"127.0.0.1:{broker.port}")
    assert sentence == f"did not acknowledge a message on {STATUS} in 0.2 s"


def test_a_broker_that_goes_silent_is_given_up_after_an_unanswered_ping() -> None:
    with ScriptedBroker({CONNECT: ACCEPTED, SUBSCRIBE: GRANTED, PUBLISH: puback}) as broker:
        sentence = first_reason(Pile(config(broker.port, keepalive_s=1)), f"127.0.0.1:{broker.port}")
    assert sentence == "has been silent for 1 s and did not answer a ping"
    assert bytes.fromhex("c0 00") in broker.packets


def test_nobody_listens() -> None:
    port = free_port()
    assert first_reason(Pile(config(port)), f"127.0.0.1:{port}") == "connection refused, no broker listens there"


def test_a_host_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        # The kernel takes one connection into the queue of 0, and answers no further one.
        port = server.getsockname()[1]
        assert first_reason(Pile(config(port, connect_timeout_s=0.2)), f"127.0.0.1:{port}") == "no answer in 0.2 s"


def test_a_name_that_is_not_found() -> None:
    sentence = first_reason(Pile(config(1883, host="broker.invalid")), "broker.invalid:1883")
    assert sentence in ("name not found", "the name cannot be looked up now, no name server answers")


def test_a_name_that_cannot_be_one() -> None:
    assert first_reason(Pile(config(1883, host="a..b")), "a..b:1883") == "name not found"


# --- mosquitto with users and rights ---

RIGHTS = ["user 32010001", f"topic read {COMMAND}", f"topic write {STATUS}", "user platform", "topic readwrite klc/#"]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[[list[str]], Mosquitto]]:
    """A mosquitto with the users 32010001 (password "right") and platform, and the rights given."""
    brokers: list[Mosquitto] = []

    def start(rights: list[str]) -> Mosquitto:
        brokers.append(Mosquitto(tmp_path, users={"32010001": "right", "platform": "p"}, acl=rights))
        return brokers[0].start()

    yield start
    for broker in brokers:
        broker.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_wrong_password_is_said_once_and_never_written(
    guarded: Callable[[list[str]], Mosquitto], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = guarded(RIGHTS)
    caplog.set_level(logging.DEBUG)
    with Pile(config(broker.port, protocol=protocol, username="32010001", password="s3same")) as pile:
        pile.run_until(lambda: pile.link.state.counters.dials >= 5)
        state = pile.link.state

    assert pile.reasons[:-1] == [
        f"127.0.0.1:{broker.port} refused the login (user 32010001, client id 32010001): "
        "not authorised (a wrong password, or this user may not connect)"
    ]
    assert [record.getMessage() for record in caplog.records] == pile.reasons[:-1]
    assert state.attempts >= 4
    assert "s3same" not in caplog.text + repr(state) + repr(config(1, password="s3same"))


def test_the_right_password_logs_in(guarded: Callable[[list[str]], Mosquitto]) -> None:
    broker = guarded(RIGHTS)
    with Pile(config(broker.port, username="32010001", password="right")) as pile:
        pile.run_until_ready()


def test_a_refused_publish_gives_the_rows_back_and_keeps_commands_coming(
    guarded: Callable[[list[str]], Mosquitto],
) -> None:
    """Only MQTT 5 tells; to 3.1.1 mosquitto says that all is well, and throws the message away."""
    broker = guarded(RIGHTS)
    settings = config(
        broker.port,
        protocol="5",
        username="32010001",
        password="right",
        refused_pause_s=0.3,
        delivery_timeout_s=3.0,  # once mosquitto did not answer what it got while it read its rules anew
    )
    with Platform(broker.port, "platform", "p") as platform, Pile(settings) as pile:
        pile.put(b"row 1", b"row 2", b"row 3")
        pile.run_until(lambda: pile.link.state.counters.refused >= 2)  # again, after the pause
        platform.command(b"command")
        pile.run_until(lambda: pile.received)

        assert pile.reasons[0] == f"127.0.0.1:{broker.port} refused a message on {REPLY}: not authorized"
        assert pile.link.state.connected
        assert pile.outbox == {1: b"row 1", 2: b"row 2", 3: b"row 3"}

        (broker.folder / "acl").write_text("\n".join([*RIGHTS, "user 32010001", f"topic write {REPLY}", ""]))
        _reload(broker)
        pile.run_until(lambda: not pile.outbox and len(set(platform.payloads(REPLY))) == 3)
        assert pile.link.state.reason == ""

    # What was on its way while the rights changed comes twice.
    assert list(dict.fromkeys(platform.payloads(REPLY))) == [b"row 1", b"row 2", b"row 3"]


@pytest.mark.parametrize(
    ("protocol", "why"), [("3.1.1", "usually this user may not read that topic"), ("5", "not authorized")]
)
def test_mosquitto_refuses_the_subscription(tmp_path: Path, protocol: str, why: str) -> None:
    """Its ACL file never does, whatever it says: the pile would just hear nothing. The dynamic security plugin does."""
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))  # a part of Debian's package
    security = tmp_path / "security.json"
    security.write_text(json.dumps(_no_rights("32010001", "right")))
    extra = ["per_listener_settings false", f"plugin {plugin}", f"plugin_opt_config_file {security}"]
    with Mosquitto(tmp_path, extra=extra) as broker:
        pile = Pile(config(broker.port, protocol=protocol, username="32010001", password="right"))
        assert first_reason(pile, f"127.0.0.1:{broker.port}") == SUBSCRIPTION + why


def _no_rights(user: str, password: str) -> dict[str, object]:
    salt = b"0123456789ab"
    digest = pbkdf2_hmac("sha512", password.encode(), salt, 101)
    client = {
        "username": user,
        "salt": b64encode(salt).decode(),
        "password": b64encode(digest).decode(),
        "iterations": 101,
    }
    return {"defaultACLAccess": {"subscribe": False, "publishClientSend": True}, "clients": [client]}


def _reload(broker: Mosquitto) -> None:
    os.kill(broker.pid, signal.SIGHUP)
