"""Light piles at a real mosquitto: they log in, answer, come back, and what waited for them is there once."""

from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.publish
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from sim.broker import Mosquitto
from sim.fleet import Fleet, Login

NUMBERS = [f"{n:010}" for n in range(1, 51)]
PASSWORD = "right"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, users=dict.fromkeys([*NUMBERS, "platform"], PASSWORD)) as broker:
        yield broker


@pytest.fixture
def fleet(broker: Mosquitto) -> Iterator[Fleet]:
    fleet = Fleet(Login(broker.host, [broker.port], PASSWORD), NUMBERS)
    yield fleet
    fleet.stop()


def line_for(pile: str, timestamp: int) -> bytes:
    return b"10.0.0.1,API:2.0.2,110,%d,%b,T7,0,1,00:00:00,24:00:00,1,1" % (timestamp, pile.encode())


def publish(broker: Mosquitto, timestamp: int) -> None:
    """A price change for each pile."""
    messages = [(f"klc/command/qik/{pile}", line_for(pile, timestamp), 1, False) for pile in NUMBERS]
    paho.mqtt.publish.multiple(messages, port=broker.port, auth={"username": "platform", "password": PASSWORD})


def had(fleet: Fleet) -> list[tuple[int, str]]:
    return sorted((timestamp, pile) for timestamp, pile, _ in fleet.log.receipts)


def test_every_pile_gets_its_own_commands(broker: Mosquitto, fleet: Fleet) -> None:
    assert fleet.run_until(lambda: fleet.ready == 50, 8.0)
    publish(broker, 1700000000001)
    assert fleet.run_until(lambda: len(fleet.log.receipts) == 50, 8.0)
    assert had(fleet) == [(1700000000001, pile) for pile in NUMBERS]
    assert (fleet.log.dials, fleet.log.refusals, fleet.log.timeouts, fleet.log.losses) == (50, 0, 0, 0)


def test_they_answer_and_call_a_repetition_one(broker: Mosquitto, fleet: Fleet) -> None:
    answers: list[bytes] = []
    platform = Client(CallbackAPIVersion.VERSION2)
    platform.username_pw_set("platform", PASSWORD)
    platform.on_message = lambda client, data, message: answers.append(bytes(message.payload))
    platform.connect(broker.host, broker.port)
    platform.loop_start()
    platform.subscribe("klc/reply/qik/+", 1)
    assert fleet.run_until(lambda: fleet.ready == 50, 8.0)
    publish(broker, 1700000000001)
    publish(broker, 1700000000001)
    assert fleet.run_until(lambda: len(answers) == 100, 8.0)
    platform.disconnect()
    platform.loop_stop()

    of_one = [line.split(b",", 5)[5] for line in answers if b",0000000001," in line]
    assert of_one == [b"1700000000001,0,T7,0,0", b"1700000000001,3,0,T7,0,0"]


def test_all_come_back_to_a_broker_that_was_away(broker: Mosquitto, fleet: Fleet) -> None:
    assert fleet.run_until(lambda: fleet.ready == 50, 8.0)
    broker.stop()
    assert fleet.run_until(lambda: fleet.ready == 0, 8.0)
    dials_at = [pile.due_at for pile in fleet.piles]
    assert max(dials_at) - min(dials_at) > 0.3  # not in one wave: full jitter over a second at least
    broker.start()
    publish(broker, 1700000000002)  # their sessions wait for them
    assert fleet.run_until(lambda: fleet.ready == 50 and len(fleet.log.receipts) == 50, 15.0)
    assert had(fleet) == [(1700000000002, pile) for pile in NUMBERS]
    assert fleet.log.losses == 50


def test_a_wrong_password_is_counted_and_tried_again(broker: Mosquitto) -> None:
    fleet = Fleet(Login(broker.host, [broker.port], "wrong"), NUMBERS[:1])
    assert fleet.run_until(lambda: fleet.log.refusals == 2, 8.0)
    assert fleet.log.dials == 2
    assert fleet.ready == 0
    fleet.stop()


def test_the_broker_sees_them_leave_as_piles_do(broker: Mosquitto, fleet: Fleet) -> None:
    assert fleet.run_until(lambda: fleet.ready == 50, 8.0)
    fleet.piles[0].leave()
    publish(broker, 1700000000003)
    assert fleet.run_until(lambda: len(fleet.log.receipts) == 49, 8.0)
    assert had(fleet) == [(1700000000003, pile) for pile in NUMBERS[1:]]
    assert fleet.ready == 49
