"""For the tests on a real RabbitMQ: one node a session, its users, and how it is made empty again."""

import os
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import paho.mqtt.publish
import pika
from broker_helpers import STATUS
from certificates import Authority
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from router.piles import definitions
from sim.rabbitmq import RabbitMq

PILE = "32010001"
PASSWORD = "right"  # of every user of these tests


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


def users(piles: Iterable[str], shared: bool = False, quorum: bool = False) -> dict[str, Any]:
    """Piles as `pile-router piles` defines them, with a password beside their certificate."""
    made = definitions(piles, shared, quorum)
    return {**made, "users": [{**user, "password_hash": password_hash(PASSWORD)} for user in made["users"]]}


def master(name: str) -> dict[str, Any]:
    """A user that may do anything."""
    user = {"name": name, "password_hash": password_hash(PASSWORD), "tags": []}
    rights = {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"users": [user], "permissions": [rights]}


def password_hash(password: str) -> str:
    """RabbitMQ's own: four bytes of salt, and the SHA-256 of salt and password."""
    salt = os.urandom(4)
    return b64encode(salt + sha256(salt + password.encode()).digest()).decode()


def depth(channel: BlockingChannel, queue: str) -> int:
    """Messages that wait in a queue."""
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count
