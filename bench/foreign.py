"""What the rest of the fleet costs in the shared mode: ``python -m bench.foreign``.

Every pile hears every command. Batches of other piles' commands are published, and one of its own at the end, whose
reply says that all were heard; the agent and a client that stock paho users would write take turns at a real mosquitto.
CPU is the whole process's. In a flood, messages per second are as many as go through while broker and publisher work on
the same machine; then as a large fleet sends them, each a wake-up of its own, less what the process takes in the same
time when it hears nothing (the agent has its clock tick and looks after its line).
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.platform_side import PILE, REPLIES, Platform, write_config
from bench.process import byte_code_kept, threads
from bench.sample import compare
from sim.broker import Mosquitto

OTHERS = 5000
BATCH, ROUNDS = 1000, 9
SPACED, SPACED_ROUNDS = 300, 3
SPACING_S = 0.01  # what 5,000 piles hear if each gets a command every 50 s
PATIENCE_S = 30.0
SHARED = "klc/command/qik"
DATA = ",1,{pile},1,U1001,10000,500,0,A1"


class Broker(Mosquitto):
    """Nothing is kept on disk, and as much is in flight as a client takes."""

    def _config_lines(self) -> list[str]:
        lines = [line for line in super()._config_lines() if not line.startswith(("persist", "autosave", "max_queued"))]
        return [*lines, "max_inflight_messages 0", "max_queued_messages 0"]


class Office:
    """Tells the fleet something, and this pile at the end."""

    def __init__(self, port: int) -> None:
        self._stamp = time.time_ns() // 1_000_000
        self._platform = Platform(port)
        self.close = self._platform.close

    def tell(self, foreign: int, qos: int, spacing_s: float = 0.0) -> float:
        """Seconds from the first message until the pile has answered its own, which is the last."""
        began_at = time.monotonic()
        for number in range(foreign):
            self._publish(f"{number % OTHERS:010}", 101, qos)
            if spacing_s:
                time.sleep(spacing_s)
        self._publish(PILE, 105, 1)
        self._platform.wait_for(str(self._stamp).encode(), PATIENCE_S)
        return time.monotonic() - began_at

    def _publish(self, pile: str, command: int, qos: int) -> None:
        self._stamp += 1
        data = DATA.format(pile=pile) if command == 101 else ""
        line = f"10.0.0.1,API:2.0.2,{command},{self._stamp},{pile}{data}"
        self._platform.publish(SHARED, line.encode(), qos)


def main() -> None:
    with ExitStack() as stack:
        stack.enter_context(byte_code_kept())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="pile-agent-bench-")))
        broker = stack.enter_context(Broker(folder / "broker"))
        office = Office(broker.port)
        stack.callback(office.close)
        for qos in (0, 1):
            measure(office, broker.port, folder, qos)


def measure(office: Office, port: int, folder: Path, qos: int) -> None:
    """One side runs at a time: a message for one would be a foreign one for the other."""
    sides = ("ours", "stock paho")
    cpu_us, per_s, spaced_us = ({name: list[float]() for name in sides} for _ in range(3))
    config = write_config(folder, PILE, port, "shared", f"{folder}/there-is-no-such-port")
    commands = {
        "ours": [sys.executable, "-m", "agent.cli.main", "run", "--config", str(config)],
        "stock paho": [sys.executable, "-m", "bench.foreign", "paho", str(port), PILE],
    }
    for name, command in commands.items():
        with running(command) as pid:
            office.tell(0, 1)
            for _ in range(ROUNDS):
                before = cpu_s(pid)
                per_s[name].append(BATCH / office.tell(BATCH, qos))
                cpu_us[name].append((cpu_s(pid) - before) / BATCH * 1e6)
            for _ in range(SPACED_ROUNDS):
                spaced_us[name].append(spaced(office, pid, qos))
    compare(f"CPU of a foreign message, QoS {qos}", cpu_us)
    compare(f"foreign messages a second, QoS {qos}", per_s, unit="/s")
    compare(f"CPU of a foreign message, {1 / SPACING_S:.0f} a second, QoS {qos}", spaced_us)


def spaced(office: Office, pid: int, qos: int) -> float:
    """Microseconds that each of ``SPACED`` messages adds to what the process takes anyway."""
    at_first = cpu_s(pid)
    took_s = office.tell(SPACED, qos, SPACING_S)
    told = cpu_s(pid)
    time.sleep(took_s)
    rested = cpu_s(pid)
    return ((told - at_first) - (rested - told)) / SPACED * 1e6


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            time.sleep(3.0)
            yield process.pid
        finally:
            process.terminate()


def cpu_s(pid: int) -> float:
    return sum(thread.cpu_ns for thread in threads(pid).values()) / 1e9


def run_paho(port: int, pile: str) -> None:
    """What one writes first: paho's own loop, the line split, the pile compared."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    def message_came(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        fields = message.payload.decode().split(",")
        if fields[4] == pile:
            client.publish(REPLIES + pile, message.payload, qos=1)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(SHARED, qos=1)  # type: ignore[assignment]
    client.on_message = message_came
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["paho"]:
        run_paho(int(sys.argv[2]), sys.argv[3])
    else:
        main()
