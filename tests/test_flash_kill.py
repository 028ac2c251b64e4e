"""The agent is killed at every frame of an update, alone or with the board's power; the next one goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from flash_helpers import NEW, OLD, image_data, order_in

from agent.pile.parts import to_json
from sim import board_model, firmware_window, gun_physics
from sim.power_board import RunningBoard, running_board
from sim.serial_line import Frame

SIZE, BLOCKS = 300, 3
LEAST_FRAMES = 40
BLOCK = bytes.fromhex("01 10 00 48 00 43 86")
AGENT = Path(__file__).with_name("flash_agent.py")


@pytest.fixture(autouse=True)
def _quick_board(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (board_model, gun_physics):
        monkeypatch.setattr(module, "RESTART_MS", 100)
    monkeypatch.setattr(firmware_window, "ERASE_MS", 30)
    monkeypatch.setattr(firmware_window, "VERIFY_MS", 30)


class Executioner:
    """Kills the process ``pid`` when the line has carried so many frames more."""

    def __init__(self) -> None:
        self.pid = 0
        self.left = 0
        self.blocks = 0
        self.site: RunningBoard | None = None
        self._lock = threading.Lock()

    def aim(self, pid: int, frames: int) -> None:
        with self._lock:
            self.pid, self.left = pid, frames

    def saw(self, frame: Frame) -> None:
        self.blocks += frame.direction == "request" and frame.data.startswith(BLOCK)
        with self._lock:
            self.left -= 1
            if self.left == 0 and self.pid:
                with suppress(ProcessLookupError):  # it was over with this very frame
                    os.kill(self.pid, signal.SIGKILL)
                if self.site is not None:
                    self.site.board.restart()


@contextmanager
def agents() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(AGENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=AGENT.parents[1],
        env=os.environ | {"PYTHONPATH": str(AGENT.parents[1])},
    )  # fmt: skip
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def updated(process: "subprocess.Popen[str]", executioner: Executioner, line: str, frames: int) -> dict[str, object]:
    """An agent of its own, killed after so many frames (0: never): what it said, with its process' end."""
    assert process.stdin is not None
    assert process.stdout is not None
    executioner.aim(0, 0)
    process.stdin.write(line + "\n")
    process.stdin.flush()
    said: dict[str, object] = {}
    while "ended" not in said:
        said |= json.loads(process.stdout.readline())
        if "ended" not in said and frames:
            executioner.aim(int(str(said["pid"])), frames)
            frames = 0
    return said


@pytest.mark.parametrize(
    ("with_power", "every"), [(False, 1), (True, 2)], ids=["the agent alone", "with the board's power"]
)
def test_killed_at_any_frame_the_next_agent_goes_on(with_power: bool, every: int, tmp_path: Path) -> None:
    executioner = Executioner()
    tried = 0
    with running_board(on_frame=executioner.saw) as site, agents() as process:
        executioner.site = site if with_power else None
        for frames in range(1, 200, every):
            wanted = (NEW, OLD)[tried % 2]
            order = order_in(tmp_path, image_data(wanted, SIZE), version=wanted)
            line = json.dumps({"port": site.port, "order": to_json(order)})
            executioner.blocks = 0
            killed = updated(process, executioner, line, frames)
            if killed["ended"] == 0:
                break
            tried += 1
            assert killed["ended"] == signal.SIGKILL
            assert updated(process, executioner, line, 0)["result"] == 0, f"killed at frame {frames}"
            assert site.board.state()["firmware"] == {"version": wanted, "state": "idle", "received": SIZE}
            assert executioner.blocks <= BLOCKS + 1, f"killed at frame {frames}: more than one block sent again"
    assert tried >= LEAST_FRAMES // every
