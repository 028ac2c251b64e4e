"""paho without what an agent has no use for, in processes of their own: what was imported once stays."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNUSED = (
    "asyncio", "base64", "decimal", "email", "ftplib", "hashlib", "http", "lzma", "shutil", "ssl", "subprocess",
    "tempfile", "urllib.request", "uuid",
)  # fmt: skip


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_agent_without_tls_loads_nothing_that_it_does_not_use() -> None:
    program = f"""
import sys
import agent.cli.main, agent.cli.run, agent.desk
agent.cli.main._parser()
from agent.link.load import load_paho
load_paho(with_tls=False)
import agent.link.link
print([name for name in {UNUSED} if name in sys.modules])
"""
    assert run(program) == "[]"


def test_who_imports_one_of_them_later_gets_the_real_one() -> None:
    program = """
from agent.link.load import load_paho
load_paho(with_tls=False)
import hashlib, ssl, urllib.request
print(hashlib.sha256(b"").hexdigest()[:8], ssl.PROTOCOL_TLS_CLIENT.name, callable(urllib.request.urlopen))
from agent.secret import hashed, is_password
print(is_password("secret", hashed("secret")))
"""
    assert run(program).split() == ["e3b0c442", "PROTOCOL_TLS_CLIENT", "True", "True"]


def test_with_tls_paho_has_the_real_ssl() -> None:
    program = """
from agent.link.load import load_paho
load_paho(with_tls=True)
import ssl, paho.mqtt.client
print(paho.mqtt.client.ssl is ssl)
"""
    assert run(program) == "True"


def test_a_paho_that_is_loaded_already_stays_as_it_is() -> None:
    program = """
import ssl, paho.mqtt.client
from agent.link.load import load_paho
load_paho(with_tls=False)
print(paho.mqtt.client.ssl is ssl)
"""
    assert run(program) == "True"


DRIBBLE = """
import random, select, socket, sys, threading, time
from agent.link.config import LinkConfig
from agent.link.load import load_paho
from agent.poller import Poller
load_paho(with_tls=False)
from agent.link.link import Link
assert "ssl" not in sys.modules

server = socket.create_server(("127.0.0.1", 0))
answers = {0x10: b"\\x20\\x02\\x00\\x00", 0x80: b"\\x90\\x03\\x00\\x01\\x01\\x32\\x0c\\x00\\x04klc/\\x00\\x07line"}

def broker():
    # answers CONNECT with CONNACK, SUBSCRIBE with SUBACK and a message, a byte at a time; then it ends as END says
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (data := connection.recv(4096)):
        for byte in answers.pop(data[0] & 0xf0, b""):
            connection.send(bytes([byte]))
            time.sleep(0.002)
        if not answers:
            END

threading.Thread(target=broker, daemon=True).start()
lines, poll = [], Poller()
config = LinkConfig("127.0.0.1", server.getsockname()[1], "P1", "client")
link = Link(config, lambda line: lines.append(line) or True, lambda others: None, lambda row: None,
            lambda state: None, poll, time.monotonic, random.Random())
link.start()
deadline = time.monotonic() + 10
while time.monotonic() < deadline and not UNTIL:
    poll.wait(0.05)
    link.tick(time.monotonic())
print(lines, link.state.counters.losses)
"""


LINGER = "connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0' + bytes(4)); "
CLOSE = "connection.close(); return"


@pytest.mark.parametrize(
    ("end", "until", "losses"),
    [
        ("pass", "lines", 0),
        (CLOSE, "link.state.counters.losses", 1),
        (LINGER + CLOSE, "link.state.counters.losses", 1),
    ],
    ids=["half packets", "the end", "a reset"],
)
def test_without_ssl_a_socket_that_has_nothing_to_read_is_no_error(end: str, until: str, losses: int) -> None:
    """paho names ssl's errors whenever reading fails; were they not there, half a packet would end the connection."""
    assert run(DRIBBLE.replace("END", end).replace("UNTIL", until)) == f"[b'line'] {losses}"
