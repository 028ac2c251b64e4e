"""The router's unit: nothing in it that systemd does not know, hardened; and the router tells systemd how it is."""

import configparser
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.main import BAD_CONFIG, DEFAULT_CONFIG
from sim.broker import free_port

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "pile-router.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy whose program exists on this machine."""
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?<=^ExecStart=)\S+", sys.executable, UNIT.read_text(), flags=re.MULTILINE))
    return copy


def test_systemd_has_nothing_to_say(unit: Path) -> None:
    assert verify(unit) == ""


def test_a_misspelt_directive_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "Unknown key" in verify(unit)


def test_its_exposure_is_at_most_1_5(unit: Path) -> None:
    assert security(unit) == 0


def test_a_looser_unit_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "").replace("NoNewPrivileges=yes", ""))
    unit.write_text(unit.read_text().replace("PrivateUsers=yes", ""))
    assert security(unit) != 0


def test_it_starts_the_router_with_its_default_configuration() -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert (Path(program).name, arguments) == ("pile-router", ["run", "--config", str(DEFAULT_CONFIG)])
    assert service["RestartPreventExitStatus"] == str(BAD_CONFIG)
    assert str(DEFAULT_CONFIG.parent) == f"/etc/{service['ConfigurationDirectory']}"


def test_systemd_hears_that_it_is_ready_alive_and_stopping_with_no_broker_in_sight(tmp_path: Path) -> None:
    with manager(tmp_path) as inbox, started(tmp_path) as router:
        heard = [inbox.recv(100) for _ in range(4)]
        assert sorted(heard[:2]) == [b"READY=1", b"WATCHDOG=1"]
        assert heard[2:] == [b"WATCHDOG=1", b"WATCHDOG=1"]  # each second
        router.terminate()
        while heard[-1] != b"STOPPING=1":
            heard.append(inbox.recv(100))
        assert router.wait(10) == 0


def test_a_router_that_hangs_is_not_alive(tmp_path: Path) -> None:
    with manager(tmp_path) as inbox, started(tmp_path) as router:
        inbox.recv(100)
        router.send_signal(signal.SIGSTOP)
        inbox.settimeout(2.5)
        with pytest.raises(TimeoutError):
            list(iter(lambda: inbox.recv(100), b"never"))


def test_a_signal_may_come_while_pika_holds_the_lock_that_wakes_its_loop() -> None:
    code = """
import os, signal
from pika.adapters.select_connection import IOLoop
from router.main import _on_signal

loop = IOLoop()
_on_signal(loop, loop.stop)
with loop._poller._waking_mutex:
    os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)  # an impatient operator
loop.start()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=10)


@contextmanager
def manager(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(str(folder / "notify"))
        inbox.settimeout(20.0)
        yield inbox


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "router.toml"
    config.write_text(
        f'[input]\nusername = "a"\nhosts = ["127.0.0.1:{free_port()}"]\n[metrics]\nlisten = "127.0.0.1:{free_port()}"'
    )
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
    command = [sys.executable, "-m", "router", "run", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as router:
        yield router
        if router.poll() is None:
            router.kill()


def verify(unit: Path) -> str:
    """What systemd says about this unit; other units of the machine are not ours to judge."""
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if unit.name in line)


def security(unit: Path) -> int:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode
