"""The platform's part in measurements over a real broker, and the pile's configuration for it."""

import select
import socket
import time
from contextlib import suppress
from pathlib import Path

PILE = "0000012345"
REPLIES = "klc/reply/qik/"
CONFIG = """
[pile]
number = "{pile}"
data_dir = "{folder}"
socket = "{folder}/control.sock"
log_level = "warning"
[broker]
host = "127.0.0.1"
port = {port}
mode = "{mode}"
[[line]]
port = "{line}"
baud = 115200
poll_ms = 60000
statistics_ms = 3600000
watchdog_s = 300
[[line.device]]
guns = [1]
"""


def write_config(folder: Path, pile: str, port: int, mode: str, line: str) -> Path:
    """The configuration file of a pile whose bus has nothing to do but what is asked."""
    file = folder / "pile.toml"
    file.write_text(CONFIG.format(pile=pile, folder=folder, port=port, mode=mode, line=line))
    return file


class Platform:
    """Publishes, and hears the replies, on two bare sockets, so that little of what is measured is its own."""

    def __init__(self, port: int) -> None:
        self._commands = _connected(port, b"bench-commands")
        self.replies = _connected(port, b"bench-replies")
        self.replies.sendall(_packet(0x82, b"\x00\x01" + _text(REPLIES.encode() + b"#") + b"\x00"))
        self.replies.recv(5)
        self._number = 0

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        self._number = self._number % 65535 + 1
        packet_id = self._number.to_bytes(2, "big") if qos else b""
        self._commands.sendall(_packet(0x30 | qos << 1, _text(topic.encode()) + packet_id + payload))

    def heard(self) -> bytes:
        """What came of the replies, and the end of the commands' acknowledgements."""
        with suppress(BlockingIOError):
            self._commands.recv(65536, socket.MSG_DONTWAIT)
        data = self.replies.recv(65536)
        self.replies.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # else a stock broker holds the next back
        return data

    def wait_for(self, words: bytes, patience_s: float) -> None:
        """Until a reply has them. Raises ``TimeoutError``."""
        deadline, heard = time.monotonic() + patience_s, b""
        while (left_s := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self.replies], [], [], left_s)
            heard += self.heard() if ready else b""
            if words in heard:
                return
        raise TimeoutError(f"no reply with {words!r} within {patience_s:g} s")

    def close(self) -> None:
        self._commands.close()
        self.replies.close()


def _connected(port: int, name: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_packet(0x10, _text(b"MQTT") + b"\x04\x02\x00\x00" + _text(name)))
    connection.recv(4)
    return connection


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(kind: int, body: bytes) -> bytes:
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 | 128, len(body) // 128])
    return bytes([kind]) + length + body
