"""What is done about passwords in commands (106, 113): they are hashed before anything is kept of them.

scrypt with n=2^14, r=8, p=1 (RFC 7914, interactive) takes 16 MiB and some 50 ms on a PC, a few tenths of a second on a
small board; a configuration comes seldom.
"""

import os

from agent.protocol.commands import COMMANDS
from agent.protocol.fields import Text, fields_of

COST, BLOCK, PARALLEL = 1 << 14, 8, 1
SALT_BYTES, HASH_BYTES = 16, 32


def _has_secret(message: type) -> bool:
    return any(isinstance(kind, Text) and kind.secret for kind in fields_of(message).values())


_SECRET = {str(number).encode() for number, command in COMMANDS.items() if _has_secret(command.data)}
_OPEN = {str(number).encode() for number in COMMANDS} - _SECRET


def hashed(password: str) -> str:
    """``scrypt$n$r$p$salt$hash``, salt and hash in hex; every call takes a new salt."""
    salt = os.urandom(SALT_BYTES)
    digest = _scrypt(password.encode(), salt, COST, BLOCK, PARALLEL, HASH_BYTES)
    return f"scrypt${COST}${BLOCK}${PARALLEL}${salt.hex()}${digest.hex()}"


def is_password(password: str, login: str) -> bool:
    """Whether ``login`` is what ``hashed`` made of ``password``."""
    _, cost, block, parallel, salt, digest = login.split("$")
    wanted = bytes.fromhex(digest)
    found = _scrypt(password.encode(), bytes.fromhex(salt), int(cost), int(block), int(parallel), len(wanted))
    import hmac

    return hmac.compare_digest(found, wanted)


def may_carry_secret(line: bytes) -> bool:
    """Whether a downlink line may hold a password: a command that has one, or no command that is known."""
    fields = line.split(b",", 3)
    return len(fields) < 3 or fields[2] not in _OPEN


def carries_secret(line: bytes) -> bool:
    """Whether a downlink line is a command that has a password."""
    fields = line.split(b",", 3)
    return len(fields) > 3 and fields[2].lstrip(b"0") in _SECRET


def slow_digest(data: bytes, size: int) -> bytes:
    """The same digest for the same data, as dear to guess as a hashed password."""
    return _scrypt(data, b"pile-agent inbox", COST, BLOCK, PARALLEL, size)


def _scrypt(data: bytes, salt: bytes, cost: int, block: int, parallel: int, size: int) -> bytes:
    import hashlib  # here, as few commands hold a password: it loads OpenSSL, 3.4 MiB

    return hashlib.scrypt(data, salt=salt, n=cost, r=block, p=parallel, dklen=size)
