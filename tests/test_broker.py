"""The brokers and the FTP server of the simulated site."""

import ftplib
import io
import os
import socket
from pathlib import Path

import pytest

from sim.broker import Broker, BrokerError, EmbeddedBroker, Mosquitto
from sim.ftp_server import FtpServer


@pytest.fixture(params=[EmbeddedBroker, Mosquitto])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    made: Broker = request.param(tmp_path / "broker")
    return made


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_it_runs_inside_with_and_comes_back_on_the_same_port(broker: Broker) -> None:
    port = broker.port
    for end in (broker.stop, broker.kill9):
        broker.start()
        assert is_open(port)
        end()
        assert not is_open(port)
        assert broker.port == port


def test_a_restart_is_another_process(broker: Broker) -> None:
    with broker:
        first = broker.pid
        broker.restart()
        assert broker.pid != first
    with pytest.raises(BrokerError, match="not running"):
        _ = broker.pid


def test_it_listens_on_the_loopback_only(broker: Broker) -> None:
    with broker:
        listening = Path(f"/proc/{broker.pid}/net/tcp").read_text()
    for port in (broker.port, broker.port_v5):
        assert f" 0100007F:{port:04X} 00000000:0000 0A" in listening  # 127.0.0.1, LISTEN
        assert f" 00000000:{port:04X} 00000000:0000 0A" not in listening


def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="Unknown configuration variable"):
        Mosquitto(tmp_path, extra=["nonsense on"]).start()


def test_the_ftp_server_serves_its_folder_to_its_user(tmp_path: Path) -> None:
    (tmp_path / "image.bin").write_bytes(bytes(range(256)) * 400)
    with FtpServer(tmp_path, "pile", "pw") as server, ftplib.FTP() as client:
        client.connect(server.host, server.port, timeout=5)
        client.login("pile", "pw")
        received = io.BytesIO()
        client.retrbinary("RETR image.bin", received.write, rest=1000)
        assert received.getvalue() == (bytes(range(256)) * 400)[1000:]
        with pytest.raises(ftplib.error_perm, match="550"):
            client.storbinary("STOR new.bin", io.BytesIO(b"x"))
    assert os.listdir(tmp_path) == ["image.bin"]


def test_the_ftp_server_refuses_a_wrong_password(tmp_path: Path) -> None:
    with FtpServer(tmp_path, "pile", "pw") as server, ftplib.FTP() as client:
        client.connect(server.host, server.port, timeout=10)
        with pytest.raises(ftplib.error_perm, match="530"):
            client.login("pile", "wrong")


def test_the_ftp_server_stops_and_starts_on_the_same_port(tmp_path: Path) -> None:
    server = FtpServer(tmp_path).start()
    port = server.port
    server.stop()
    assert not is_open(port)
    with server:
        assert server.port == port
        assert is_open(port)
