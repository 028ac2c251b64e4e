"""The router in trouble: a broker that takes nothing or hangs, a message meant to choke it, a stop at any time."""

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pika.data
import pytest
from broker_helpers import CONNECT, ScriptedBroker, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties
from rabbit_helpers import PILE, Rabbit, depth
from router_helpers import EXCHANGE, KEY, PARKED, QUEUE, RouterProcess, bound_queue, command, drain, publish

from router import mqtt
from router.config import MqttOutputConfig
from sim.broker import Mosquitto, free_port
from sim.rabbit_users import router_user

HELD_BACK = "takes no messages for now: low on memory"


@pytest.fixture(scope="module")
def known_to_the_broker(rabbitmq: Rabbit) -> None:
    rabbitmq.broker.define(router_user())


@pytest.fixture
def platform(rabbitmq: Rabbit, known_to_the_broker: None) -> Iterator[BlockingChannel]:
    with rabbitmq.connection() as connection, connection.channel() as channel:
        channel.queue_delete(PARKED)
        bound_queue(channel, QUEUE, KEY, {"x-single-active-consumer": True})
        bound_queue(channel, "sink", f"{KEY}.{PILE}")
        yield channel
        channel.queue_delete("sink")


def test_a_broker_without_memory_is_waited_for_and_nothing_is_lost(
    rabbitmq: Rabbit, platform: BlockingChannel, tmp_path: Path
) -> None:
    lines = [command(PILE, n) for n in range(200)]
    publish(platform, lines)
    wait_until(lambda: depth(platform, QUEUE) == 200)
    rabbitmq.broker.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        with RouterProcess(tmp_path, rabbitmq.broker.amqp_port) as router:
            wait_until(lambda: router.counter("blocked") == 1)
            assert router.counter("connected") == 1
            assert router.counter("forwarded_total") == 0
            rabbitmq.broker.ctl("set_vm_memory_high_watermark", "0.4")
            wait_until(lambda: router.counter("forwarded_total") == 200, 20.0)
            assert router.counter("blocked") == 0
            assert router.counter("losses_total") == 0
            assert router.log.count(HELD_BACK) == 1
    finally:
        rabbitmq.broker.ctl("set_vm_memory_high_watermark", "0.4")
    assert drain(platform, "sink") == lines


class Raw:
    """A value of a header, as bytes."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded


@pytest.fixture
def any_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own pika sends a ``Raw`` value as it is."""
    encode_value: Callable[[list[bytes], Any], int] = pika.data.encode_value

    def encode(pieces: list[bytes], value: Any) -> int:
        if not isinstance(value, Raw):
            return encode_value(pieces, value)
        pieces.append(value.encoded)
        return len(value.encoded)

    monkeypatch.setattr(pika.data, "encode_value", encode)


def test_no_header_and_no_property_stops_it(
    rabbitmq: Rabbit, platform: BlockingChannel, any_header: None, tmp_path: Path
) -> None:
    far_future = Raw(b"T" + struct.pack(">Q", 2**62))
    poison = [
        BasicProperties(headers={"at": far_future}, message_id="1"),
        BasicProperties(headers={"a": [far_future]}),
        BasicProperties(headers={"a": Raw(b"d" + struct.pack(">d", 1.5)), "b": Raw(b"x\x00\x00\x00\x01\xff")}),
        BasicProperties(headers={b"\xff": b"\xfe"}, content_type=b"\xff", timestamp=2**63),  # type: ignore[arg-type,dict-item]
        BasicProperties(type=b"\xff", correlation_id=b"\xff", reply_to=b"\xff", app_id=b"\xff"),  # type: ignore[arg-type]
    ]
    lines = [command(PILE, n) for n in range(len(poison))]
    with RouterProcess(tmp_path, rabbitmq.broker.amqp_port) as router:
        for line, properties in zip(lines, poison, strict=True):
            platform.basic_publish(EXCHANGE, KEY, line, properties)
        wait_until(lambda: router.counter("forwarded_total") == len(lines))
        assert router.counter("losses_total") == 0
    assert drain(platform, "sink") == lines


# --- without a broker that answers ---


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_it_can_be_stopped_while_a_broker_does_not_answer(silent: socket.socket, tmp_path: Path) -> None:
    router = RouterProcess(tmp_path, silent.getsockname()[1]).start()
    with silent.accept()[0] as dialled:
        assert dialled.recv(8) == b"AMQP\x00\x00\x09\x01"
        assert router.stop() == 0
    assert "Traceback" not in router.log


def test_the_loss_of_the_output_while_the_input_is_dialled_is_but_a_loss(silent: socket.socket, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as mosquitto:
        output = f'[output]\nkind = "mqtt"\n[output.mqtt]\nport = {mosquitto.port}'
        router = RouterProcess(tmp_path, silent.getsockname()[1], output).start()
        with silent.accept()[0] as dialled:
            assert dialled.recv(8)
            mosquitto.kill9()
            wait_until(lambda: f"127.0.0.1:{mosquitto.port}: " in router.log)
            mosquitto.start()
            with silent.accept()[0] as again:
                assert again.recv(8)
        assert router.stop() == 0
    assert "Traceback" not in router.log


class Owner:
    """Of an MqttOutput: keeps what it is told."""

    def __init__(self) -> None:
        self.told: SimpleQueue[str] = SimpleQueue()

    def output_ready(self) -> None:
        self.told.put("ready")

    def output_answered(self, job: object, outcome: object) -> None:
        self.told.put("answered")

    def output_lost(self, reason: str) -> None:
        self.told.put(reason)


def test_an_mqtt_broker_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_KEEPALIVE_S", 1)
    owner = Owner()
    with ScriptedBroker({CONNECT: bytes.fromhex("20 03 00 00 00")}) as broker:
        settings = MqttOutputConfig("127.0.0.1", broker.port, "router", "", "", "klc", 60, None)
        output = mqtt.MqttOutput(settings, lambda call: call(), owner)
        assert owner.told.get(timeout=8) == "ready"
        assert owner.told.get(timeout=8) == f"127.0.0.1:{broker.port}: closed the connection: Keep alive timeout"
        output.close()


def test_an_mqtt_broker_that_is_not_there_is_said_in_words() -> None:
    owner = Owner()
    port = free_port()
    mqtt.MqttOutput(MqttOutputConfig("127.0.0.1", port, "r", "", "", "klc", 60, None), lambda call: call(), owner)
    assert owner.told.get(timeout=8) == f"127.0.0.1:{port}: connection refused, no broker listens there"
