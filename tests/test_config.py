"""The configuration file: each key's faults by name, all of them at once, and the example that comes with it."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.config import load_config
from agent.config_keys import REQUIRED, SECTIONS, ConfigError, Key, Section
from agent.config_page import render
from agent.link.config import TlsConfig
from agent.pile.money import Price

EXAMPLE = Path(__file__).parents[1] / "systemd" / "pile.toml.example"
SECRET = "hunter2-secret"


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path)


class Writer:
    """Writes a configuration that is good but for what a test puts into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pile.toml"
        self._good = {
            "pile": f'number = "0000012345"\ndata_dir = "{folder}"\nsocket = "{folder}/control.sock"',
            "broker": 'host = "broker.example"',
            "line": 'port = "/dev/pile0"',
            "line.device": "guns = [1, 2]",
        }

    def __call__(self, lines: Mapping[str, str] | None = None, end: str = "") -> Path:
        """``lines`` come to those of a section, or in the place of those with the same key; ``end`` is text behind."""
        lines = lines or {}
        text = ""
        for section in SECTIONS:
            if section.name in self._good or section.name in lines:
                rows = f"{self._good.get(section.name, '')}\n{lines.get(section.name, '')}".splitlines()
                latest = {row.partition(" = ")[0]: row for row in rows if row}
                title = f"[[{section.name}]]" if section.repeats else f"[{section.name}]"
                text += "\n".join([title, *latest.values(), "", ""])
        self.path.write_text(text + end)
        return self.path


def faults_of(path: Path) -> list[str]:
    """Every fault, without the file's name that each must begin with."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(fault.startswith(f"{path}: ") for fault in caught.value.faults)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


# ---- what a good file says ----


def test_a_file_with_the_required_keys_only_has_every_default(write: Writer) -> None:
    config = load_config(write())

    assert (config.ip, config.api_version, config.utc_offset_s, config.log_level) == (
        "0.0.0.0",
        "API:2.0.2",
        28800,
        "info",
    )
    link = config.link
    assert (link.host, link.port, link.client_id, link.mode) == ("broker.example", 1883, "0000012345", "shared")
    assert (link.username, link.password, link.tls, link.protocol) == (None, None, None, "3.1.1")
    (line,) = config.lines
    assert (line.port, line.baud, line.parity, line.stop_bits, line.tries) == ("/dev/pile0", 9600, "N", 1, 3)
    assert (line.poll_ms, line.watchdog_s, line.answer_ms) == (1000, 10, None)
    assert (line.devices[0].name, line.devices[0].unit, line.devices[0].guns) == ("board", 1, (1, 2))
    assert (config.pile.pile, config.pile.guns, config.pile.price) == ("0000012345", 2, None)
    assert (config.pile.command_ttl_s, config.pile.current_limit_da, config.pile.feed_period_s) == (120, 320, 3)


def test_the_defaults_are_those_of_the_table(write: Writer) -> None:
    """Written out, the defaults make the same configuration as when left out."""
    left_out = load_config(write())
    written = {section.name: defaults(section) for section in SECTIONS if section.name != "broker.tls"}
    assert load_config(write(written)) == left_out


def test_what_the_file_sets_is_what_the_agent_runs_by(write: Writer) -> None:
    config = load_config(
        write(
            {
                "pile": 'utc_offset = "-03:30"\nreboot_command = ["systemctl", "reboot"]\nlog_level = "debug"',
                "broker": 'port = 8883\nclient_id = "c1"\nusername = "u"\nmode = "routed"\nprotocol = "5"',
                "line": "baud = 19200\npoll_ms = 250\nanswer_ms = 300\nwatchdog_s = 30",
                "line.device": 'name = "dc"\nunit = 7',
                "charging": "price = 100000\nservice_fee = 50000\ncurrent_limit_a = 250",
            }
        )
    )
    assert config.utc_offset_s == -12600
    assert config.reboot_command == ("systemctl", "reboot")
    assert (config.link.broker, config.link.client_id, config.link.protocol) == ("broker.example:8883", "c1", "5")
    assert config.link.command_topic == "klc/command/qik/0000012345"
    assert (config.lines[0].baud, config.lines[0].answer_ms, config.lines[0].devices[0].unit) == (19200, 300, 7)
    assert config.pile.price == Price(100_000, 50_000)
    assert (config.pile.current_limit_da, config.pile.feed_period_s) == (2500, 10)


def test_a_free_pile_has_a_price_of_nothing(write: Writer) -> None:
    assert load_config(write({"charging": "price = 0"})).pile.price == Price(0, 0)


def test_the_password_may_stand_in_a_file_of_its_own(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"s3cret, with comma\r\nsecond line\n")
    config = load_config(write({"broker": f'username = "u"\npassword_file = "{tmp_path}/password"'}))
    assert config.link.password == "s3cret, with comma"


def test_tls_files(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    config = load_config(write({"broker.tls": f'ca_file = "{tmp_path}/ca.pem"'}))
    assert config.link.tls == TlsConfig(f"{tmp_path}/ca.pem", None, None)
    assert load_config(write({"broker.tls": ""})).link.tls == TlsConfig(None, None, None)


def test_several_lines_and_devices(write: Writer) -> None:
    second_device = '[[line.device]]\nname = "b"\nunit = 2\nguns = [3]\n'
    second_line = '[[line]]\nport = "/dev/pile1"\n[[line.device]]\nname = "c"\nguns = [4]\n'
    config = load_config(write(end=second_device + second_line))
    assert [[device.guns for device in line.devices] for line in config.lines] == [[(1, 2), (3,)], [(4,)]]
    assert config.pile.guns == 4


# ---- every key's faults ----

KEYS = [(section, key) for section in SECTIONS for key in section.keys]


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda one: one.name)
def test_a_value_of_the_wrong_type_is_named(write: Writer, section: Section, key: Key) -> None:
    wrong = "1" if key.kind is str else '"one"'
    shown = "(not shown)" if key.secret else wrong.replace('"', "")

    faults = faults_of(write({section.name: f"{key.name} = {wrong}"}))

    assert any(f"{key.name} = " in fault and shown in fault and "expected" in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        pytest.param(section, key, value, id=f"{section.name}.{key.name}-{value}")
        for section, key in KEYS
        for value in (key.low, key.high)
        if value is not None
    ],
)
def test_a_number_out_of_range_is_named_and_its_bounds_are_good(
    write: Writer, section: Section, key: Key, value: int
) -> None:
    load_config(write({section.name: f"{key.name} = {value}"}))
    beyond = value - 1 if value == key.low else value + 1
    (fault,) = faults_of(write({section.name: f"{key.name} = {beyond}"}))
    assert f"{key.name} = {beyond}: expected an integer" in fault
    assert str(value) in fault


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, k in KEYS if k.choices], ids=lambda one: one.name)
def test_a_choice_that_is_none_is_named_with_all_there_are(write: Writer, section: Section, key: Key) -> None:
    wrong, shown = ("17", "17") if key.kind is int else ('"neither"', "'neither'")
    expected = ", ".join(str(choice) for choice in key.choices)
    (fault,) = faults_of(write({section.name: f"{key.name} = {wrong}"}))
    assert fault.endswith(f"{key.name} = {shown}: expected one of {expected}")


@pytest.mark.parametrize(
    ("section", "line", "fault"),
    [
        ("pile", 'ip = "1,2"', "pile.ip = '1,2': expected text without comma or control character"),
        ("pile", 'version = "a\\u0007"', "pile.version = 'a\\x07': expected text without comma or control character"),
        ("pile", 'utc_offset = "8"', "pile.utc_offset = '8': expected +HH:MM or -HH:MM"),
        ("pile", 'utc_offset = "+15:00"', "pile.utc_offset = '+15:00': expected +HH:MM or -HH:MM"),
        ("pile", 'data_dir = "/none"', "pile.data_dir = '/none': expected a directory that exists"),
        ("pile", 'socket = "/none/s"', "pile.socket = '/none/s': expected a path in a directory that exists"),
        ("pile", "reboot_command = [1]", "pile.reboot_command = [1]: expected a list of texts"),
        ("broker", 'topic_prefix = "a/b"', "broker.topic_prefix = 'a/b': expected text without +, #, / or control"),
        ("broker", 'password_file = "/none"', "broker.password_file = '/none': expected a readable file of UTF-8 "
                                              "([Errno 2] No such file or directory: '/none')"),
        ("broker", f'password = "{SECRET}"', "broker.username = '': expected the user whose password is given"),
        ("broker.tls", 'ca_file = "/none"', "broker.tls.ca_file = '/none': expected a file that exists"),
        ("line.device", 'name = "a,b"', "line[0].device[0].name = 'a,b': expected 1 to 32 characters, no comma"),
        ("line.device", 'profile = "x"', "line[0].device[0].profile: "),
    ],
)  # fmt: skip
def test_faults_beyond_type_and_range(write: Writer, section: str, line: str, fault: str) -> None:
    (found,) = faults_of(write({section: line}))
    assert found.startswith(fault)


@pytest.mark.parametrize("number", ['""', '"a b"', '"1/2"', '"' + "1" * 33 + '"'])
def test_a_pile_number_that_no_topic_can_carry(write: Writer, number: str) -> None:
    (fault,) = faults_of(write({"pile": f"number = {number}"}))
    assert fault.endswith("expected 1 to 32 letters, digits, _ or -")


@pytest.mark.parametrize("guns", ["[]", "[0]", "[1.0]", '["1"]', "[true]"])
def test_guns_that_are_no_numbers(write: Writer, guns: str) -> None:
    (fault,) = faults_of(write({"line.device": f"guns = {guns}"}))
    assert fault.startswith("line[0].device[0].guns = ")
    assert fault.endswith("expected a list of gun numbers from 1")


@pytest.mark.parametrize("guns", ["[2]", "[1, 1]", "[1, 3]", "[2, 3]"])
def test_guns_are_numbered_from_1_without_gap(write: Writer, guns: str) -> None:
    (fault,) = faults_of(write({"line.device": f"guns = {guns}"}))
    count = guns.count(",") + 1
    assert fault == f"line.device.guns = {guns}: expected all devices together to have each of 1..{count} once"


def test_more_guns_than_the_board_can_have(write: Writer) -> None:
    (fault,) = faults_of(write({"line.device": "guns = [1, 2, 3, 4, 5, 6, 7, 8, 9]"}))
    assert fault.endswith("expected at most 8 guns, as profile reference has")


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('[[line.device]]\nname = "b"\nguns = [3]', "line.device.unit = [1, 1]: expected each once on /dev/pile0"),
        ("[[line.device]]\nunit = 2\nguns = [3]", "line.device.name = ['board', 'board']: expected each once"),
        (
            '[[line]]\nport = "/dev/pile0"\n[[line.device]]\nname = "b"\nguns = [3]',
            "line.port = ['/dev/pile0', '/dev/pile0']: expected each once",
        ),
    ],
)
def test_what_may_stand_once_only(write: Writer, more: str, fault: str) -> None:
    assert faults_of(write(end=more)) == [fault]


# ---- keys and sections that are missing or unknown ----


def test_an_unknown_key_is_named_with_those_there_are(write: Writer) -> None:
    (fault,) = faults_of(write({"line": "speed = 9600"}))
    assert fault.startswith("line[0].speed is unknown: expected one of port, baud, parity")


def test_an_unknown_section_is_named(write: Writer) -> None:
    (fault,) = faults_of(write(end="[brokers]\nhost = 1\n"))
    assert fault.startswith("brokers is unknown: expected one of pile, broker, line, charging")


def test_an_empty_file_misses_every_required_part(tmp_path: Path) -> None:
    path = tmp_path / "pile.toml"
    path.touch()
    faults = faults_of(path)
    for fault in ("[pile] is missing: The pile itself.", "pile.number is missing: the pile's number on the platform",
                  "[broker] is missing", "broker.host is missing", "[[line]] expected, at least once"):  # fmt: skip
        assert any(one.startswith(fault) for one in faults)


@pytest.mark.parametrize("name", ["pile", "broker", "charging"])
def test_a_section_that_is_no_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pile.toml"
    path.write_text(f"{name} = 5\n")
    assert f"{name} = 5: expected a table" in faults_of(path)


@pytest.mark.parametrize("text", ["line = 5", "line = []", "line = [1]", "[line]\nbaud = 9600"])
def test_lines_that_are_no_list_of_tables(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pile.toml"
    path.write_text(text)
    assert "[[line]] expected, at least once" in faults_of(path)


def test_all_faults_are_told_at_once(write: Writer) -> None:
    faults = faults_of(
        write(
            {
                "pile": 'log_level = "loud"\ndata_dir = "/none"',
                "broker": "port = 70000\nkeepalive_s = 1",
                "line": "baud = 9601\nbits = 8",
                "line.device": "unit = 300",
                "charging": 'price = "dear"',
            }
        )
    )
    assert len(faults) == 8


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "pile.toml"
    assert faults_of(path) == ["No such file or directory"]
    path.write_text("[pile\n")
    assert faults_of(path)[0].startswith("not TOML: Expected ']'")
    path.write_bytes(b"\xff\xfe")
    assert faults_of(path)[0].startswith("not TOML: 'utf-8' codec can't decode")


# ---- the password ----


def test_the_password_is_never_shown(write: Writer) -> None:
    config = load_config(write({"broker": f'username = "u"\npassword = "{SECRET}"'}))
    assert config.link.password == SECRET
    assert SECRET not in repr(config)
    assert SECRET not in "".join(faults_of(write({"broker": f'port = 0\npassword = ["{SECRET}"]'})))


# ---- the example ----


def test_the_example_file_is_current() -> None:
    """``make docs`` writes it anew."""
    assert EXAMPLE.read_text(encoding="utf-8") == render()


def test_the_example_file_is_good_once_its_directories_exist(tmp_path: Path) -> None:
    text = render().replace("# data_dir = ", "data_dir = ").replace("# socket = ", "socket = ")
    text = text.replace("/var/lib/pile-agent", str(tmp_path)).replace("/run/pile-agent", str(tmp_path))
    path = tmp_path / "pile.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path).pile.guns == 2


def test_the_example_file_with_every_key_set_says_the_same(tmp_path: Path) -> None:
    """Each commented key, uncommented, is TOML and holds its default."""
    text = "\n".join(line.removeprefix("# ") if " = " in line else line for line in render().splitlines())
    tree = tomllib.loads(text.replace("# [broker.tls]", "[broker.tls]"))
    assert tree["broker"]["port"] == 1883
    for section in SECTIONS:
        found = _found(tree, section.name)
        assert list(found) == [key.name for key in section.keys]
        assert all(found[key.name] == (key.sample if key.default is REQUIRED else key.default) for key in section.keys)


def _found(tree: Any, name: str) -> dict[str, Any]:
    """The section's keys in the parsed example, without the sections inside it."""
    for part in name.split("."):
        tree = tree[part][0] if isinstance(tree[part], list) else tree[part]
    inner = {section.name.rpartition(".")[2] for section in SECTIONS if section.name.startswith(f"{name}.")}
    return {key: value for key, value in tree.items() if key not in inner}


def defaults(section: Section) -> str:
    """Every default of the section, written out; but for the directories, which a test has its own of."""
    keys = [key for key in section.keys if key.default is not REQUIRED and key.name not in ("data_dir", "socket")]
    return "\n".join(f"{key.name} = {json.dumps(key.default)}" for key in keys)
