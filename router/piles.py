"""What RabbitMQ must know of a pile, as a definitions file: login, rights, and its queue before it is ever online."""

from collections.abc import Iterable
from typing import Any

from router.routing import COMMAND_KEY, pile_key

EXCHANGE = "cdz_command_topic_exchange"


def definitions(piles: Iterable[str], shared: bool = False, quorum: bool = False) -> dict[str, list[dict[str, Any]]]:
    """For ``rabbitmqctl import_definitions``; importing it again changes nothing.

    ``shared``: the piles may read the key of all too, and their queues are bound to it (mode "shared"). ``quorum``: as
    ``mqtt.durable_queue_type = quorum`` of a cluster wants the queues.
    """
    numbers = list(piles)
    return {
        "users": [_user(pile) for pile in numbers],
        "permissions": [_rights(pile) for pile in numbers],
        "topic_permissions": [_topic_rights(pile, shared) for pile in numbers],
        "queues": [_queue(pile, quorum) for pile in numbers],
        "bindings": [_binding(pile, shared) for pile in numbers],
    }


def queue_of(pile: str) -> str:
    """The queue that rabbitmq_mqtt keeps for the session of a client id, QoS 1."""
    return f"mqtt-subscription-{pile}qos1"


def _user(pile: str) -> dict[str, Any]:
    # Without a password hash no password fits: the pile's certificate is its login, until one is set.
    return {"name": pile, "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}


def _rights(pile: str) -> dict[str, Any]:
    own_queue = f"mqtt-subscription-{pile}qos[01]"
    queue_and_exchange = f"^({own_queue}|{EXCHANGE})$"
    return {
        "user": pile,
        "vhost": "/",
        "configure": f"^{own_queue}$",
        "write": queue_and_exchange,
        "read": queue_and_exchange,
    }


def _topic_rights(pile: str, shared: bool) -> dict[str, Any]:
    """RabbitMQ lets a user without such an entry read and write every key of an exchange it may use at all."""
    command = COMMAND_KEY.replace(".", r"\.")
    return {
        "user": pile,
        "vhost": "/",
        "exchange": EXCHANGE,
        "write": rf"^klc\.(reply|status)\.qik\.{pile}$",
        "read": rf"^{command}(\.{pile})?$" if shared else rf"^{command}\.{pile}$",
    }


def _queue(pile: str, quorum: bool) -> dict[str, Any]:
    """Exactly as rabbitmq_mqtt declares it: it drops a pile whose queue has other arguments."""
    arguments = {"x-queue-type": "quorum"} if quorum else {}
    return {"name": queue_of(pile), "vhost": "/", "durable": True, "auto_delete": False, "arguments": arguments}


def _binding(pile: str, shared: bool) -> dict[str, Any]:
    return {
        "source": EXCHANGE,
        "vhost": "/",
        "destination": queue_of(pile),
        "destination_type": "queue",
        "routing_key": COMMAND_KEY if shared else pile_key(pile),
        "arguments": {},
    }
