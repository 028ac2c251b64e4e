"""pile-router's other commands, and the text of its counters."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from broker_helpers import wait_until

from router.counters import Counters, MetricsServer, prometheus_text
from router.routing import Unroutable

ROOT = Path(__file__).parents[1]


def pile_router(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=30)


def test_counters_are_prometheus_text() -> None:
    counters = Counters(received=3, forwarded=2, is_connected=True)
    counters.parked[Unroutable.NO_PILE] = 1
    lines = prometheus_text(counters).splitlines()
    assert lines[:3] == [
        "# HELP pile_router_received_total messages taken from the router's queue",
        "# TYPE pile_router_received_total counter",
        "pile_router_received_total 3",
    ]
    assert "pile_router_connected 1" in lines
    assert 'pile_router_parked_total{reason="no_pile"} 1' in lines
    assert len({line.split()[0] for line in lines if not line.startswith("#")}) == 9 + len(Unroutable)


def test_counters_are_served_where_they_belong_and_nothing_else_is() -> None:
    server = MetricsServer("127.0.0.1", 0, Counters(received=5))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert b"pile_router_received_total 5\n" in answer.read()
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/")
    finally:
        server.close()


def test_counters_are_served_on_ipv6_too_and_who_says_nothing_or_goes_away_leaves_no_trace(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.counters._REQUEST_S", 0.2)
    server = MetricsServer("::1", 0, Counters(received=5))
    try:
        before = threading.active_count()
        with contextlib.closing(socket.create_connection(("::1", server.port))) as silent:
            assert silent.recv(1) == b""  # it was let go
        with contextlib.closing(socket.create_connection(("::1", server.port))) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rude.sendall(b"GET /metrics HTTP/1.0\r\n")
        with urllib.request.urlopen(f"http://[::1]:{server.port}/metrics") as answer:
            assert b"pile_router_received_total 5\n" in answer.read()
        wait_until(lambda: threading.active_count() == before)
    finally:
        server.close()
    assert capfd.readouterr() == ("", "")


def test_piles_are_written_as_definitions() -> None:
    made = json.loads(pile_router("piles", "0000012345").stdout)
    assert made["users"][0]["name"] == "0000012345"
    assert made["users"][0]["password_hash"] == ""  # no password fits
    assert made["permissions"][0]["configure"] == "^mqtt-subscription-0000012345qos[01]$"
    assert made["topic_permissions"][0] == {
        "user": "0000012345",
        "vhost": "/",
        "exchange": "cdz_command_topic_exchange",
        "write": r"^klc\.(reply|status)\.qik\.0000012345$",
        "read": r"^klc\.command\.qik\.0000012345$",
    }
    assert made["bindings"][0]["routing_key"] == "klc.command.qik.0000012345"


def test_numbers_come_from_standard_input_too_and_empty_lines_are_none() -> None:
    made = json.loads(pile_router("piles", "1", "-", stdin="2\n3\n\n").stdout)
    assert [user["name"] for user in made["users"]] == ["1", "2", "3"]


def test_a_number_that_would_be_a_pattern_is_refused() -> None:
    done = pile_router("piles", "1", ".*", "a b")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "not 1 to 32 letters, digits, _ or -: .*, a b\n"


def test_a_replay_without_a_broker_says_so(tmp_path: Path) -> None:
    config = tmp_path / "router.toml"
    config.write_text('[input]\nusername = "a"\nhosts = ["127.0.0.1:1"]')
    done = pile_router("replay", "--config", str(config), "cdz_unroutable")
    assert done.returncode == 1
    assert done.stderr == "127.0.0.1:1: connection refused, no broker listens there\n"
