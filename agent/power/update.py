"""An order to update the power boards: one board after the other, each in its own line's thread."""

import logging
from collections.abc import Callable
from functools import partial

from agent.pile.actions import FlashBoard
from agent.pile.events import FlashDone, FlashProgress
from agent.power.device import Device
from agent.power.scheduler import Scheduler, Task, Urgency, told
from agent.protocol.results import Result
from firmware_bridge.flash import OK, Flashed

log = logging.getLogger(__name__)


class BoardsUpdate:
    """The boards whose profile is of a model in the order's ``hardware``, until one fails. ``post`` gets the progress
    of all of them together, and the end; ``on_over`` is called after it. Both from the lines' threads, but at once and
    from the caller's when there is nothing to do."""

    def __init__(
        self,
        order: FlashBoard,
        devices: list[tuple[Scheduler, Device]],
        post: Callable[[FlashProgress | FlashDone], None],
        on_over: Callable[[], None],
    ) -> None:
        self._order = order
        self._devices = [pair for pair in devices if pair[1].config.profile.model in order.image.hardware]
        self._models = ", ".join(sorted({device.config.profile.model for _, device in devices})) or "none"
        self._post = post
        self._on_over = on_over
        self._percent = -1

    def start(self) -> None:
        if self._devices:
            self._flash(0)
        else:
            text = f"the image is for {', '.join(self._order.image.hardware)}, the power boards here are {self._models}"
            self._end(Result.WRONG_HARDWARE, text, "")

    def _flash(self, number: int) -> None:
        scheduler, device = self._devices[number]
        steps = device.flashing(self._order, partial(self._progressed, number))
        scheduler.submit(Task(Urgency.UPDATE, told(steps, partial(self._flashed, number))))

    def _progressed(self, number: int, percent: int) -> None:
        total = (100 * number + percent) // len(self._devices)
        if total != self._percent:
            self._percent = total
            self._post(FlashProgress(total))

    def _flashed(self, number: int, flashed: Flashed) -> None:
        _, device = self._devices[number]
        name = f"{device.config.name} (unit {device.config.unit})"
        if flashed.result != OK:
            log.error("%s: %s", name, flashed.text)
            self._end(Result(flashed.result), f"{name}: {flashed.text}", flashed.version)
            return
        log.info("%s runs %s", name, flashed.version)
        if number + 1 < len(self._devices):
            self._flash(number + 1)
        else:
            self._end(Result.OK, "", flashed.version)

    def _end(self, result: Result, text: str, version: str) -> None:
        self._post(FlashDone(result, text, version))
        self._on_over()
