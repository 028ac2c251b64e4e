"""The firmware window in a profile: whole, or none."""

from pathlib import Path

import pytest
from test_profile_faults import REFERENCE, faults
from test_profile_maps import WALLBOX

from agent.power.profile import load_profile

COMMAND = next(line for line in REFERENCE.splitlines() if line.startswith("fw_command "))
DATA = next(line for line in REFERENCE.splitlines() if line.startswith("fw_data "))
LENGTH = next(line for line in REFERENCE.splitlines() if line.startswith("fw_length "))
RECEIVED = next(line for line in REFERENCE.splitlines() if line.startswith("fw_received "))
SIZE = next(line for line in REFERENCE.splitlines() if line.startswith("fw_size "))
BEYOND = "board.fw_data: expected fw_offset, fw_length and fw_data side by side in holding registers"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (RECEIVED, "", "board: the firmware window lacks fw_received, expected all of it or none"),
        ('verify_firmware   = ["fw_command = verify"]\n', "",
         "board: the firmware window lacks verify_firmware, expected all of it or none"),
        (SIZE, SIZE.replace('"rw"', '"w"'),
         "board.fw_size: access = 'w', expected 'rw': an update that was cut is known by it"),
        ('failed    = { is = 5, doc = "CRC wrong: erase again" }\n', "", "board.fw_state: values lacks failed"),
        (DATA, DATA.replace("0x4B", "0x4C"), BEYOND),
        (LENGTH, LENGTH.replace("0x4A", "0x46"), BEYOND),
        ("max_write_registers = 123", "max_write_registers = 60",
         "board.fw_data: a block is one frame of 67 registers, expected at most 60"),
    ],
)  # fmt: skip
def test_half_a_window_is_a_fault(old: str, new: str, fault: str, tmp_path: Path) -> None:
    assert faults(tmp_path, (old, new)) == [f"pile.toml: {fault}"]


def test_a_device_may_have_none(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text(WALLBOX, encoding="utf-8")
    assert not load_profile(path).has_firmware_window
    assert load_profile("reference").has_firmware_window


def test_the_erase_is_one_frame_and_nothing_of_it_is_read_back() -> None:
    """A command is over sooner than it could be read."""
    (write,) = load_profile("reference").writes("erase_firmware", size=300, crc32=0x12345678)
    assert (write.function, write.address, write.read_back) == (16, 0x40, False)
    assert write.words == (0, 300, 0x1234, 0x5678, 1)
