"""A profile with mistakes: each is named with file, place, value and what was expected, and all of them at once."""

from pathlib import Path

import pytest

from agent.power.profile import PROFILES, ProfileError, load_profile

REFERENCE = (PROFILES / "reference.toml").read_text(encoding="utf-8")


def faults(tmp_path: Path, *changes: tuple[str, str]) -> list[str]:
    """What is wrong with the reference profile after ``changes``, each of which must hit exactly one place."""
    text = REFERENCE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the reference profile"
        text = text.replace(old, new)
    path = tmp_path / "pile.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    return caught.value.faults


VOLTAGE = 'voltage        = { at = 0x04, type = "u16",  unit = "0.1 V", '
SECOND_PLUG = 'plug = { at = 0x30, type = "u16", access = "r", values = "plug", group = "live", doc = "" }'

ONE_FAULT = [
    # top of the file
    ("guns        = 8", "guns        = 0", "guns = 0, expected 1..64"),
    ('model       = "PB-200"', 'modell      = "PB-200"', "model is missing, expected text"),
    ("max_read_registers  = 125", "max_read_registers  = 126", "limits: max_read_registers = 126, expected 1..125"),
    ("min_pause_ms        = 0 ", "min_pause_ms        = true ", "limits: min_pause_ms = True, expected 0..10000"),
    ("[6, 16]", "[6, 17]", "limits: write_functions = [6, 17], expected some of 5, 6, 15, 16"),
    ("answer_ms ", "anwser_ms ", "limits: unknown key 'anwser_ms'"),
    # windows
    ("size = 0x0020, stride = 0x0020", "size = 0x0020, stride = 0x001F",
     "windows.gun.input: size = 0x20 is more than stride = 0x1f: the windows of two guns overlap"),
    ("base = 0x0040", "base = 0x003F", "windows: board.input and gun.input overlap"),
    ("base = 0x0200", "base = 0xFF00", "windows.gun.holding: ends at 0x10100, expected at most 0x10000"),
    ("gun.holding   = ", "gun.coils     = ", "gun: holding has no window, expected windows.gun.holding"),
    ("base = 0x0040, size = 0x0020", "base = 0x0040, size = 0x001F",
     "gun.input.order: at = 0x10 ends at 0x20, expected at most 0x1f, its window's size"),
    # registers
    ('0x00, type = "u16",  values = "state"', '0x00, type = "u17",  values = "state"',
     "gun.input.state: type = 'u17', expected one of u16, s16, u32, s32, u64, float32, flag, text, bits, data"),
    (VOLTAGE, VOLTAGE.replace("voltage ", "voltgae "), "gun.input.voltgae: is no register the agent understands"),
    (VOLTAGE, VOLTAGE.replace("0.1 V", "0.1 A"),
     "gun.input.voltage: unit = '0.1 A' measures current, expected a unit of voltage such as '0.1 V'"),
    (VOLTAGE, VOLTAGE.replace("0.1 V", "1/10 volt"), "gun.input.voltage: unit = '1/10 volt' is not a known unit"),
    (VOLTAGE, VOLTAGE.replace("0.1 V", "ten V"), "gun.input.voltage: unit = 'ten V' has 'ten' before the unit"),
    (VOLTAGE, VOLTAGE.replace("at = 0x04, ", ""), "gun.input.voltage: at is missing, expected 0..65535"),
    (VOLTAGE, VOLTAGE + "colour = 3, ", "gun.input.voltage: unknown key 'colour'"),
    (VOLTAGE, VOLTAGE + 'values = "plug", ', "gun.input.voltage: values is given, expected none here"),
    (VOLTAGE, VOLTAGE.replace('"u16"', '"text"') + "words = 2, ",
     "gun.input.voltage: type = 'text', expected one of u16, s16, u32, s32, u64, float32"),
    (VOLTAGE, VOLTAGE.replace("0x04", "0x05"), "gun.input.current: at = 0x5 overlaps 'voltage', expected 0x6 or later"),
    ('unit = "0.1 A",  invalid = 0xFFFF', 'unit = "0.1 A",  invalid = 0x10000',
     "gun.input.current: invalid = 0x10000, expected at most 16 bits for u16"),
    ("range = [60, 2500]", "range = [60, 65536]", "gun.holding.current_limit: range = [60, 65536], expected within 0"),
    ("range = [60, 2500]", "range = [2500, 60]", "gun.holding.current_limit: range = [2500, 60], expected [least"),
    ('values = "phases", ', 'values = "phase", ', "gun.holding.phases: values = 'phase', expected one of the tables"),
    ('values = "mode",   ', "", "gun.holding.mode: values is missing, expected a table [values.*]"),
    ('bits = "gun_fault",    ', "", "gun.input.faults: bits is missing, expected a table [bits.*]"),
    ('access = "w",  values = "restart",           group', 'access = "x",  values = "restart",           group',
     "board.holding.reboot: access = 'x', expected one of r, rw, w"),
    ('words = 16,                            group = "live"', 'group = "live"',
     "gun.input.order: words is missing, expected 1..123"),
    ('group = "setting",  doc = "Charging mode"', 'group = "settings", doc = "Charging mode"',
     "gun.holding.mode: group = 'settings', expected one of live, identity, statistics, setting, control"),
    ("[gun.holding]  ", f"[gun.holding]\n{SECOND_PLUG} #",
     "gun.holding.plug: the name stands twice in this window"),
    # words and bits
    ("ended    = { is = 5,", "ended    = { is = 4,", "values.state.ended: is = 4 is taken by 'stopping'"),
    ("lock              = { bit =  6", "lock              = { bit =  5",
     "bits.gun_fault.lock: bit = 5 is taken by 'contactor_stuck', expected another number"),
    ("lock              = { bit =  6", "lock              = { bit = 16",
     "gun.input.faults: bit 'lock' = 16, expected 0"),
    ("full           = { is = 2, stop_reason =  3", "full           = { is = 2, stop_reason = 14",
     "values.stop_cause.full: stop_reason = 14, expected 1..13"),
    ("fault    = { is = 6,", "broken   = { is = 6,", "gun.input.state: values has 'broken', expected some of"),
    ("updating = { is = 7,", "updating = { is = 70000,", "gun.input.state: value 'updating' = 70000, expected"),
    ("[values.plug]", "[values.spare]\nspare = { is = 1 }\n[values.plug]", "values.spare: no register uses it"),
    ("[values.plug]", "[values.fuse]\n[values.plug]", "values.fuse: is empty, expected at least one name"),
    # actions
    ("[actions]", '[actions]\ndance = ["command = start"]', "actions: 'dance' is no action, expected one of start"),
    ("stop              = [", "set_stop          = [", "actions: 'stop' is missing: end the charge"),
    ('["phases = $phases"]', '["phases = $mode"]',
     "actions.set_phases: 'phases = $mode': $mode is no parameter of set_phases, expected one of $phases"),
    ('["phases = $phases"]', '["phases = two"]',
     "actions.set_phases: 'phases = two': 'two', expected a number, a $parameter, or one of single, three"),
    ('["phases = $phases"]', '["phases = 70000"]', "actions.set_phases: 'phases = 70000': gun.phases = 70000"),
    ('["phases = $phases"]', '["phases: three"]', "actions.set_phases: 'phases: three', expected \"register = value\""),
    ('["phases = $phases"]', '["phase = $phases"]', "actions.set_phases: 'phase = $phases': the gun has no"),
    ('["phases = $phases"]', '["state = 3"]', "actions.set_phases: 'state = 3': state is read-only"),
    ('["phases = $phases"]', "[]", "actions: set_phases is empty, expected at least one line"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), ONE_FAULT, ids=[said[:60] for _, _, said in ONE_FAULT])
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    found = faults(tmp_path, (old, new))
    assert any(fault.startswith(f"pile.toml: {said}") for fault in found), found


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        (VOLTAGE, VOLTAGE.replace("u16", "u17")),
        ("ended    = { is = 5,", "ended    = { is = 4,"),
        ("feed              = [", "nourish           = ["),
        ("range = [60, 2500]", "range = [60]"),
    )
    places = [fault.split(": ")[1] for fault in found]
    assert places == ["values.state.ended", "gun.input.voltage", "gun.holding.current_limit", "actions", "actions"]


def test_a_faulty_register_is_not_also_called_missing(tmp_path: Path) -> None:
    found = faults(tmp_path, ('0x00, type = "u16",  values = "state"', '0x00, type = "u17",  values = "state"'))
    assert len(found) == 1


def test_required_registers_that_are_absent(tmp_path: Path) -> None:
    row = REFERENCE[REFERENCE.index("energy         = {") : REFERENCE.index("session_energy = {")]
    assert faults(tmp_path, (row, "")) == ["pile.toml: gun: register 'energy' is missing: energy meter, never set back"]


def test_a_value_of_several_registers_needs_function_16(tmp_path: Path) -> None:
    found = faults(tmp_path, ("[6, 16]", "[6]"))
    assert [fault.split(": ")[2] for fault in found] == [
        "'order_context = $order'",
        "'energy_limit  = $energy_limit_wh'",
        "'clock = $epoch_s'",
        "'fw_size = $size'",
        "'fw_crc32 = $crc32'",
    ]
    assert all("needs function 16, expected it in limits.write_functions" in fault for fault in found)


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "pile.toml"
    path.write_text("name = \n", encoding="utf-8")
    with pytest.raises(ProfileError, match=r"pile\.toml: Invalid value \(at line 1, column 8\)"):
        load_profile(path)


def test_a_name_that_no_shipped_profile_has() -> None:
    with pytest.raises(
        ProfileError, match=r"nope\.toml: no such file, expected a path or one of the profiles .*reference"
    ):
        load_profile("nope")
