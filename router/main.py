"""``pile-router``: from arguments to a running router, and to an exit code."""

import argparse
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from agent import logs
from agent.notify import notify
from router.config import Config, ConfigError, load_config
from router.piles import definitions
from router.routing import is_pile

if TYPE_CHECKING:
    from pika.adapters.select_connection import IOLoop

OK, FAILED, BAD_CONFIG = 0, 1, 78  # 78: EX_CONFIG of sysexits.h, as pile-agent has it

DEFAULT_CONFIG = Path("/etc/pile-router/router.toml")
ALIVE_S = 1.0  # how often systemd hears of us
GOODBYE_S = 5.0

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pile-router", description="Hand the platform's commands on, each to its pile alone."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _configured(commands.add_parser("run", help="hand on commands until a signal"), _run)
    _configured(commands.add_parser("check", help="say what is wrong with the configuration"), _check)
    replay = commands.add_parser("replay", help="give what waits in a queue to the router once more")
    replay.add_argument("queue", help="pile_router_parked, cdz_unroutable, cdz_dead_letters")
    _configured(replay, _replay)
    piles = commands.add_parser("piles", help="print RabbitMQ's definitions of piles: login, rights, queue")
    piles.add_argument("number", nargs="+", help="a pile's number; - reads numbers from standard input, one a line")
    piles.add_argument("--shared", action="store_true", help="they read the command topic of all")
    piles.add_argument("--quorum", action="store_true", help="for a broker with mqtt.durable_queue_type = quorum")
    piles.set_defaults(run=_piles)
    return parser


def _configured(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    parser.set_defaults(run=run)


def _check(options: argparse.Namespace) -> int:
    load_config(options.config)
    print(f"{options.config}: good")
    return OK


def _piles(options: argparse.Namespace) -> int:
    lines = (line.strip() for one in options.number for line in (sys.stdin if one == "-" else [one]))
    numbers = [line for line in lines if line]
    faults = [number for number in numbers if not is_pile(number)]
    if faults:
        print(f"not 1 to 32 letters, digits, _ or -: {', '.join(faults)}", file=sys.stderr)
        return FAILED
    print(json.dumps(definitions(numbers, options.shared, options.quorum), indent=1))
    return OK


def _replay(options: argparse.Namespace) -> int:
    from router.replay import ReplayError, replay

    try:
        count = replay(load_config(options.config).input, options.queue)
    except ReplayError as error:
        print(error, file=sys.stderr)
        return FAILED
    print(f"{count} messages from {options.queue}")
    return OK


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    logs.set_up(config.log_level)
    try:
        _serve(config)
    except OSError as error:
        log.critical("%s", error)
        return FAILED
    except Exception:
        log.critical("the router stops for a fault of its own", exc_info=True)
        return FAILED
    return OK


def _serve(config: Config) -> None:
    from pika.adapters.select_connection import IOLoop

    from router.counters import Counters, MetricsServer
    from router.router import Router

    loop, counters = IOLoop(), Counters()
    metrics = MetricsServer(*config.metrics, counters)
    router = Router(config, loop, counters, Random())

    def stop() -> None:
        notify("STOPPING=1")
        router.stop(loop.stop, GOODBYE_S)

    def live() -> None:
        notify("WATCHDOG=1")
        loop.call_later(ALIVE_S, live)

    _on_signal(loop, stop)
    router.start()
    live()
    notify("READY=1")
    log.info("router %d started, counters at 127.0.0.1:%d", os.getpid(), metrics.port)
    loop.start()
    metrics.close()


def _on_signal(loop: "IOLoop", stop: Callable[[], None]) -> None:
    """Call ``stop`` in the loop at the first SIGTERM or SIGINT.

    Not from a signal handler: it may interrupt pika while that holds the very lock that waking the loop takes.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def hear(*_: object) -> None:
        loop.remove_handler(heard.fileno())
        signal.set_wakeup_fd(-1)  # one is enough
        told.close()
        stop()

    loop.add_handler(heard.fileno(), hear, loop.READ)
