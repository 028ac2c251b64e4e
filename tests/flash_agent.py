"""What an agent does for an update, in a process to be killed: ``python tests/flash_agent.py``.

A line of JSON on standard input (port, and the order's fields) begins one in a fork; ``{"pid": …}`` tells of it,
``{"result": …, "version": …, "text": …}`` is its end, ``{"ended": …}`` the end of its process.
"""

import json
import logging
import os
import sys
import threading
from dataclasses import replace
from typing import Any

from agent.clock import Clock
from agent.pile.actions import FlashBoard
from agent.pile.events import FlashDone, FromBoard
from agent.pile.parts import from_json
from agent.power import flashing
from agent.power.bus import Bus
from agent.power.config import DeviceConfig, LineConfig
from agent.power.profile import load_profile

PROFILE = load_profile("reference")


def main() -> None:
    flashing.PATIENCE = replace(flashing.PATIENCE, pause_s=0.02, silent_pause_s=0.05)
    logging.disable()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            update(**json.loads(line))
        say({"pid": pid})
        _, status = os.waitpid(pid, 0)
        say({"ended": status})


def update(port: str, order: dict[str, Any]) -> None:
    board = DeviceConfig("board", 1, PROFILE, (1, 2))
    line = LineConfig(port, (board,), baud=115_200, poll_ms=60_000, statistics_ms=60_000, answer_ms=250)
    is_over = threading.Event()

    def post(event: FromBoard) -> None:
        if isinstance(event, FlashDone):
            say({"result": event.result, "version": event.version, "text": event.text})
            is_over.set()

    bus = Bus((line,), post, lambda error: os._exit(1), Clock())
    bus.do(from_json(FlashBoard, order))
    bus.start()
    is_over.wait()
    os._exit(0)


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
