"""For the tests on a real RabbitMQ: one node a session, its users, and how it is made empty again."""

from dataclasses import dataclass
from typing import Any

import paho.mqtt.publish
import pika
from broker_helpers import STATUS
from certificates import Authority
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from sim.rabbit_users import PASSWORD
from sim.rabbitmq import RabbitMq

PILE = "32010001"


@dataclass(frozen=True)
class Rabbit:
    """A running RabbitMQ on the shipped configuration; the user "platform" may do anything."""

    broker: RabbitMq
    ca: Authority

    def connection(self, username: str = "platform") -> BlockingConnection:
        return BlockingConnection(self.parameters(username))

    def parameters(self, username: str = "platform") -> pika.ConnectionParameters:
        credentials = pika.PlainCredentials(username, PASSWORD)
        return pika.ConnectionParameters("127.0.0.1", self.broker.amqp_port, credentials=credentials)

    def forget(self, *queues: str) -> None:
        """Delete these queues, and what is retained of the pile's presence."""
        with self.connection() as connection, connection.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)
        auth: Any = {"username": "platform", "password": PASSWORD}
        paho.mqtt.publish.single(STATUS, b"", qos=1, retain=True, port=self.broker.port, auth=auth)


def depth(channel: BlockingChannel, queue: str) -> int:
    """Messages that wait in a queue."""
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count
