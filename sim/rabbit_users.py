"""Users of a RabbitMQ for tests and measurements, as definitions: the platform, the router, piles with a password."""

import os
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from router.piles import EXCHANGE, definitions

PASSWORD = "right"  # of all of them


def master(name: str) -> dict[str, Any]:
    """A user that may do anything."""
    rights = {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"users": [_user(name)], "permissions": [rights]}


def router_user() -> dict[str, Any]:
    """The user "router", with the rights that docs/operations/brokers.md gives it."""
    rights = {
        "user": "router",
        "vhost": "/",
        "configure": "^pile_router",
        "write": rf"^(pile_router.*|{EXCHANGE}|amq\.default)$",
        "read": "^(pile_router.*|cdz_.*)$",
    }
    keys = {
        "user": "router",
        "vhost": "/",
        "exchange": EXCHANGE,
        "write": r"^klc\.command\.qik\.[A-Za-z0-9_-]+$",
        "read": r"^klc\.command\.qik$",
    }
    return {"users": [_user("router")], "permissions": [rights], "topic_permissions": [keys]}


def pile_users(piles: Iterable[str], shared: bool = False, quorum: bool = False) -> dict[str, Any]:
    """Piles as `pile-router piles` defines them, with a password beside their certificate."""
    made = definitions(piles, shared, quorum)
    return {**made, "users": [{**user, "password_hash": _HASH} for user in made["users"]]}


def _user(name: str) -> dict[str, Any]:
    return {"name": name, "password_hash": _HASH, "tags": []}


def _password_hash(password: str) -> str:
    """RabbitMQ's own: four bytes of salt, and the SHA-256 of salt and password."""
    salt = os.urandom(4)
    return b64encode(salt + sha256(salt + password.encode()).digest()).decode()


_HASH = _password_hash(PASSWORD)
