"""What a router counts, and how it says so: Prometheus text over HTTP on a loopback address."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from router.routing import Unroutable

_REQUEST_S = 5.0  # who connects and says nothing holds a thread no longer


@dataclass
class Counters:
    """Since the start of the process. One thread writes."""

    received: int = 0
    redelivered: int = 0  # of those: handed out by the broker before, so perhaps handed on before
    forwarded: int = 0
    refused: int = 0  # by the broker; tried again
    connections: int = 0
    losses: int = 0
    is_connected: bool = False
    is_blocked: bool = False  # by the broker: it takes no messages
    in_flight: int = 0
    parked: dict[Unroutable, int] = field(default_factory=lambda: dict.fromkeys(Unroutable, 0))


_METRICS: tuple[tuple[str, str, str, Callable[[Counters], int]], ...] = (
    ("received_total", "counter", "messages taken from the router's queue", lambda c: c.received),
    ("redelivered_total", "counter", "of those, handed out before: perhaps duplicates", lambda c: c.redelivered),
    ("forwarded_total", "counter", "messages handed on and confirmed", lambda c: c.forwarded),
    ("refused_total", "counter", "messages the broker refused, tried again", lambda c: c.refused),
    ("connections_total", "counter", "connections that became ready", lambda c: c.connections),
    ("losses_total", "counter", "connections lost", lambda c: c.losses),
    ("connected", "gauge", "1 while connected and consuming, or standing by", lambda c: int(c.is_connected)),
    ("blocked", "gauge", "1 while the broker takes no messages (memory, disk)", lambda c: int(c.is_blocked)),
    ("in_flight", "gauge", "messages taken and not acknowledged", lambda c: c.in_flight),
)


def prometheus_text(counters: Counters) -> str:
    lines = []
    for name, kind, doc, value in _METRICS:
        lines += [*_head(name, kind, doc), f"pile_router_{name} {value(counters)}"]
    lines += _head("parked_total", "counter", "messages put into the parking queue, by reason")
    lines += [f'pile_router_parked_total{{reason="{why.name.lower()}"}} {n}' for why, n in counters.parked.items()]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, doc: str) -> list[str]:
    return [f"# HELP pile_router_{name} {doc}", f"# TYPE pile_router_{name} {kind}"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # who asked has gone away


class MetricsServer:
    """Answers ``GET /metrics`` in threads of its own."""

    def __init__(self, host: str, port: int, counters: Counters) -> None:
        """Raises OSError when the address can't be used."""

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_S

            def do_GET(self) -> None:
                body = prometheus_text(counters).encode() if self.path == "/metrics" else b"see /metrics\n"
                self.send_response(200 if self.path == "/metrics" else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass  # a scrape each few seconds is no news

        self._server = _Server((host, port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
