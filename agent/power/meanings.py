"""What the agent understands: the register names and actions a profile may use, and what each of them means.

A profile gives each name an address, a type and the maker's unit; the unit here is the one the agent counts in.
"""

from dataclasses import dataclass

from agent.pile.board import BoardState, StopCause


@dataclass(frozen=True, slots=True)
class Meaning:
    """One register name. ``kind`` is number, word (an enumeration), bits, text or data."""

    window: str
    name: str
    kind: str
    doc: str
    unit: str = ""
    words: tuple[str, ...] | None = None  # the words an enumeration may use; None: the maker's own
    required: bool = False


@dataclass(frozen=True, slots=True)
class ActionMeaning:
    """One thing the agent asks of a device, with the parameters it offers."""

    name: str
    window: str
    parameters: tuple[str, ...]
    doc: str
    required: bool = False


_STATES = tuple(state.value for state in BoardState)
_CAUSES = tuple(cause.value for cause in StopCause)
_UPDATE_STATES = ("idle", "erasing", "receiving", "verifying", "verified", "failed")
_UPDATE_COMMANDS = ("erase", "verify", "activate", "abort")

# fmt: off  (a table is read by its columns)
MEANINGS = (
    Meaning("board", "model", "text", "model name"),
    Meaning("board", "serial", "text", "serial number"),
    Meaning("board", "hw_version", "text", "hardware version"),
    Meaning("board", "fw_version", "text", "firmware version"),
    Meaning("board", "gun_count", "number", "guns fitted"),
    Meaning("board", "uptime", "number", "time since the board started", unit="s"),
    Meaning("board", "faults", "bits", "faults of the whole board"),
    Meaning("board", "watchdog", "number", "feeds the watchdog and sets its timeout", unit="s"),
    Meaning("board", "watchdog_left", "number", "time left until the watchdog expires", unit="s"),
    Meaning("board", "clock", "number", "real-time clock, seconds since 1970 UTC", unit="s"),
    Meaning("board", "reboot", "word", "restarts the board", words=("restart",)),
    Meaning("board", "fw_state", "word", "firmware window: what the bootloader does", words=_UPDATE_STATES),
    Meaning("board", "fw_received", "number", "firmware window: bytes stored without a gap from 0", unit="bytes"),
    Meaning("board", "fw_block_limit", "number", "firmware window: largest block", unit="bytes"),
    Meaning("board", "fw_size", "number", "firmware window: size of the image", unit="bytes"),
    Meaning("board", "fw_crc32", "number", "firmware window: CRC-32 of the image"),
    Meaning("board", "fw_command", "word", "firmware window: next step", words=_UPDATE_COMMANDS),
    Meaning("board", "fw_offset", "number", "firmware window: where the block belongs", unit="bytes"),
    Meaning("board", "fw_length", "number", "firmware window: bytes in the block", unit="bytes"),
    Meaning("board", "fw_data", "data", "firmware window: the block"),
    Meaning("gun", "state", "word", "what the gun does", words=_STATES, required=True),
    Meaning("gun", "plug", "word", "plug in the vehicle", words=("unplugged", "plugged"), required=True),
    Meaning("gun", "faults", "bits", "faults that keep the gun from charging", required=True),
    Meaning("gun", "stop_cause", "word", "why the last charge ended", words=_CAUSES),
    Meaning("gun", "voltage", "number", "output voltage", unit="0.1 V"),
    Meaning("gun", "current", "number", "output current", unit="0.1 A"),
    Meaning("gun", "power", "number", "output power", unit="W"),
    Meaning("gun", "soc", "number", "battery charge", unit="%"),
    Meaning("gun", "temperature", "number", "connector temperature", unit="0.1 °C"),
    Meaning("gun", "energy", "number", "energy meter, never set back", unit="Wh", required=True),
    Meaning("gun", "session_energy", "number", "energy of this charge", unit="Wh"),
    Meaning("gun", "session_time", "number", "duration of this charge", unit="s"),
    Meaning("gun", "uptime", "number", "time since the gun's controller started", unit="s"),
    Meaning("gun", "order", "text", "order of this or the last charge, empty after a local start"),
    Meaning("gun", "order_context", "text", "order of the next start"),
    Meaning("gun", "energy_limit", "number", "energy after which the charge ends by itself, 0 none", unit="Wh"),
    Meaning("gun", "current_limit", "number", "largest current", unit="0.1 A"),
    Meaning("gun", "command", "word", "starts and stops", words=("start", "stop"), required=True),
    Meaning("gun", "mode", "word", "constant voltage or constant current", words=("cv", "cc")),
    Meaning("gun", "phases", "word", "phases of the supply in use", words=("single", "three")),
    Meaning("gun", "reboot", "word", "restarts the gun's controller", words=("restart",)),
    Meaning("gun", "fw_version", "text", "firmware version of the gun's controller"),
)

ACTIONS = (
    ActionMeaning("start", "gun", ("order", "energy_limit_wh", "current_limit_da"), "begin a charge", True),
    ActionMeaning("stop", "gun", (), "end the charge", True),
    ActionMeaning("feed", "board", ("timeout_s",), "feed the board's watchdog", True),
    ActionMeaning("reboot_gun", "gun", (), "restart one gun's controller", True),
    ActionMeaning("reboot_board", "board", (), "restart the power board", True),
    ActionMeaning("set_current_limit", "gun", ("current_limit_da",), "largest current of a gun"),
    ActionMeaning("set_mode", "gun", ("mode",), "constant voltage (cv) or current (cc)"),
    ActionMeaning("set_phases", "gun", ("phases",), "phases of the supply: single, three"),
    ActionMeaning("set_clock", "board", ("epoch_s",), "set the real-time clock, UTC"),
    ActionMeaning("erase_firmware", "board", ("size", "crc32"), "firmware window: begin an update"),
    ActionMeaning("verify_firmware", "board", (), "firmware window: compare the CRC"),
    ActionMeaning("activate_firmware", "board", (), "firmware window: restart with the new image"),
)
# fmt: on

# A device whose firmware can be updated has all of these. fw_offset, fw_length and fw_data stand side by side in this
# order: a block is one frame.
FIRMWARE_REGISTERS = (
    "fw_version", "fw_state", "fw_received", "fw_size", "fw_crc32", "fw_command", "fw_offset", "fw_length", "fw_data",
)  # fmt: skip
FIRMWARE_ACTIONS = ("erase_firmware", "verify_firmware", "activate_firmware")
FIRMWARE_STATES = _UPDATE_STATES

BY_NAME = {(meaning.window, meaning.name): meaning for meaning in MEANINGS}
ACTION_BY_NAME = {action.name: action for action in ACTIONS}
KIND_TYPES = {
    "number": ("u16", "s16", "u32", "s32", "u64", "float32"),
    "word": ("u16", "s16", "u32", "flag"),
    "bits": ("bits",),
    "text": ("text",),
    "data": ("data",),
}
