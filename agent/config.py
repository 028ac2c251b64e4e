"""Reading the configuration file by its table of keys (agent/config_keys.py), every fault named at once."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.bridge import FirmwareConfig
from agent.config_keys import BY_NAME, REQUIRED, ConfigError, Key, Section
from agent.journal import Retention
from agent.link.config import LinkConfig, ServerTiming, TlsConfig
from agent.pile.money import Price
from agent.pile.parameters import Server
from agent.pile.state import PileConfig
from agent.power.config import DeviceConfig, LineConfig
from agent.power.profile import Profile, ProfileError, load_profile
from agent.protocol.offset import utc_offset_s
from agent.protocol.results import RecordType
from agent.version import VERSION

CURRENT_MAX_DA = 65535  # where no device says otherwise
SOCKET_PATH_MAX = 107  # sun_path of unix(7), less its closing zero


@dataclass(frozen=True)
class Config:
    """Everything the agent runs by."""

    pile: PileConfig
    link: LinkConfig
    servers: ServerTiming
    lines: tuple[LineConfig, ...]
    ip: str
    api_version: str
    utc_offset_s: int
    data_dir: Path
    socket: Path
    reboot_command: tuple[str, ...]
    log_level: str
    retention: Mapping[int, Retention]  # by record type
    replay_per_s: int
    firmware: FirmwareConfig | None  # None: 113 and 114 are not supported

    @property
    def journal(self) -> Path:
        return self.data_dir / "journal.db"


def load_config(path: Path) -> Config:
    """The configuration in a TOML file. Raises ``ConfigError`` with every fault."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return _Reader(path, tree).config()


class _Reader:
    """Reads a parsed file, collecting faults instead of stopping at the first."""

    def __init__(self, path: Path, tree: dict[str, Any]) -> None:
        self._path = path
        self._tree = tree
        self._faults: list[str] = []

    def config(self) -> Config:
        self._refuse_unknown(self._tree, ("pile", "broker", "line", "charging", "records", "firmware"), "")
        pile = self._table("pile", self._tree)
        broker = self._table("broker", self._tree, ("tls",))
        charging = self._table("charging", self._tree)
        records = self._table("records", self._tree)
        firmware = self._table("firmware", self._tree)
        faults_before = len(self._faults)
        lines = tuple(self._lines())
        if len(self._faults) == faults_before:
            self._check_together(lines)
        link = self._link(pile, broker)
        self._check_paths(pile)
        self._check_texts("pile", "reboot_command", pile["reboot_command"])
        self._check_firmware(firmware)
        if self._faults:
            raise ConfigError(self._faults)
        return Config(
            pile=replace(
                _pile_config(pile, charging, lines),
                broker=Server(link.host, link.port),
                can_update=bool(firmware["install_dir"]),
            ),
            link=link,
            servers=ServerTiming(broker["trial_timeout_s"], broker["fallback_s"]),
            lines=lines,
            ip=pile["ip"],
            api_version=pile["version"],
            utc_offset_s=utc_offset_s(pile["utc_offset"]),
            data_dir=Path(pile["data_dir"]),
            socket=Path(pile["socket"]),
            reboot_command=tuple(pile["reboot_command"]),
            log_level=pile["log_level"],
            retention=_retention(records),
            replay_per_s=records["replay_per_s"],
            firmware=_firmware_config(pile, firmware, lines) if firmware["install_dir"] else None,
        )

    def _check_texts(self, where: str, name: str, values: list[Any]) -> None:
        if not all(isinstance(one, str) for one in values):
            self._fault(where, name, values, "a list of texts")

    def _check_firmware(self, firmware: dict[str, Any]) -> None:
        self._check_texts("firmware", "hardware", firmware["hardware"])
        install_dir = firmware["install_dir"]
        if install_dir and not (Path(install_dir) / "trust").is_dir():
            self._fault("firmware", "install_dir", install_dir, "a directory with a folder named trust")
        if firmware["ca_file"] and not Path(firmware["ca_file"]).is_file():
            self._fault("firmware", "ca_file", firmware["ca_file"], "a file that exists")

    def _check_paths(self, pile: dict[str, Any]) -> None:
        if not Path(pile["data_dir"]).is_dir():
            self._fault("pile", "data_dir", pile["data_dir"], "a directory that exists")
        if not Path(pile["socket"]).parent.is_dir():
            self._fault("pile", "socket", pile["socket"], "a path in a directory that exists")
        if len(os.fsencode(pile["socket"])) > SOCKET_PATH_MAX:
            self._fault("pile", "socket", pile["socket"], f"at most {SOCKET_PATH_MAX} bytes, as the system allows")

    def _link(self, pile: dict[str, Any], broker: dict[str, Any]) -> LinkConfig:
        return LinkConfig(
            host=broker["host"],
            port=broker["port"],
            pile=pile["number"],
            client_id=broker["client_id"] or pile["number"],
            username=broker["username"] or None,
            password=self._password(broker),
            tls=self._tls(),
            mode=broker["mode"],
            topic_prefix=broker["topic_prefix"],
            protocol=broker["protocol"],
            keepalive_s=broker["keepalive_s"],
            connect_timeout_s=broker["connect_timeout_s"],
            boot_spread_s=broker["boot_spread_s"],
        )

    def _password(self, broker: dict[str, Any]) -> str | None:
        password = self._password_in_file(broker["password_file"]) or broker["password"] or None
        if password and not broker["username"]:
            self._fault("broker", "username", broker["username"], "the user whose password is given")
        return password

    def _password_in_file(self, path: str) -> str:
        if not path:
            return ""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8
            self._fault("broker", "password_file", path, f"a readable file of UTF-8 ({error})")
            return ""
        return text.split("\n", 1)[0].rstrip("\r")

    def _tls(self) -> TlsConfig | None:
        broker = self._tree.get("broker")
        if not isinstance(broker, dict) or "tls" not in broker:
            return None
        tls = self._table("broker.tls", {"broker.tls": broker["tls"]})
        for name, file in tls.items():
            if file and not Path(file).is_file():
                self._fault("broker.tls", name, file, "a file that exists")
        return TlsConfig(tls["ca_file"] or None, tls["cert_file"] or None, tls["key_file"] or None)

    def _lines(self) -> Iterator[LineConfig]:
        for number, tree in enumerate(self._array(self._tree, "line", "line")):
            where = f"line[{number}]"
            values = self._values(BY_NAME["line"], tree, where, ("device",))
            devices = tuple(self._devices(tree, where))
            fields = {key: values[key] for key in _LINE_FIELDS}
            yield LineConfig(devices=devices, answer_ms=values["answer_ms"] or None, **fields)

    def _devices(self, line: dict[str, Any], where: str) -> Iterator[DeviceConfig]:
        for number, tree in enumerate(self._array(line, "device", f"{where}.device")):
            place = f"{where}.device[{number}]"
            values = self._values(BY_NAME["line.device"], tree, place)
            profile = self._profile(values["profile"], place)
            guns = values["guns"]
            if not guns or not all(type(gun) is int and gun >= 1 for gun in guns):
                self._fault(place, "guns", guns, "a list of gun numbers from 1")
            elif profile is not None and len(guns) > profile.guns:
                self._fault(place, "guns", guns, f"at most {profile.guns} guns, as profile {profile.name} has")
            elif profile is not None:
                yield DeviceConfig(values["name"], values["unit"], profile, tuple(guns))

    def _profile(self, name: str, where: str) -> Profile | None:
        try:
            return load_profile(name)
        except ProfileError as error:
            self._faults += [f"{self._path}: {where}.profile: {fault}" for fault in error.faults]
            return None

    def _check_together(self, lines: tuple[LineConfig, ...]) -> None:
        """The devices' gun numbers must be 1..n, each once; units, ports and names once too."""
        guns = sorted(gun for line in lines for device in line.devices for gun in device.guns)
        if guns != list(range(1, len(guns) + 1)):
            self._fault("line.device", "guns", guns, f"all devices together to have each of 1..{len(guns)} once")
        for line in lines:
            self._check_once("line.device", "unit", [device.unit for device in line.devices], f" on {line.port}")
        self._check_once("line", "port", [line.port for line in lines])
        self._check_once("line.device", "name", [device.name for line in lines for device in line.devices])

    def _check_once(self, where: str, name: str, values: list[Any], of: str = "") -> None:
        if len(set(values)) != len(values):
            self._fault(where, name, values, f"each once{of}")

    # ---- tables and values ----

    def _table(self, name: str, tree: dict[str, Any], inner: tuple[str, ...] = ()) -> dict[str, Any]:
        section = BY_NAME[name]
        if name not in tree and not section.optional:
            self._faults.append(f"{self._path}: [{name}] is missing: {section.doc}")
        found = tree.get(name, {})
        if not isinstance(found, dict):
            self._fault("", name, found, "a table")
            found = {}
        return self._values(section, found, name, inner)

    def _array(self, tree: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
        found = tree.get(name, [])
        if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
            self._faults.append(f"{self._path}: [[{where}]] expected, at least once")
            return []
        return found

    def _values(
        self, section: Section, tree: dict[str, Any], where: str, inner: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Every key of the section: as the file has it, or its default, which a faulty one gets too."""
        self._refuse_unknown(tree, tuple(key.name for key in section.keys) + inner, where)
        return {key.name: self._value(key, tree, where) for key in section.keys}

    def _value(self, key: Key, tree: dict[str, Any], where: str) -> Any:
        fallback = key.sample if key.default is REQUIRED else key.default
        if key.name not in tree:
            if key.default is REQUIRED:
                self._faults.append(f"{self._path}: {where}.{key.name} is missing: {key.doc}")
            return fallback
        expected = key.fault(tree[key.name])
        if expected is None:
            return tree[key.name]
        self._fault(where, key.name, "(not shown)" if key.secret else tree[key.name], expected)
        return fallback

    def _refuse_unknown(self, tree: dict[str, Any], known: tuple[str, ...], where: str) -> None:
        for name in tree:
            if name not in known:
                place = f"{where}.{name}" if where else name
                self._faults.append(f"{self._path}: {place} is unknown: expected one of {', '.join(known)}")

    def _fault(self, where: str, name: str, value: object, expected: str) -> None:
        place = f"{where}.{name}" if where else name
        self._faults.append(f"{self._path}: {place} = {value!r}: expected {expected}")


_LINE_FIELDS = ("port", "baud", "parity", "stop_bits", "local_echo", "poll_ms", "statistics_ms", "watchdog_s", "tries")


def _pile_config(pile: dict[str, Any], charging: dict[str, Any], lines: tuple[LineConfig, ...]) -> PileConfig:
    price = Price(charging["price"], charging["service_fee"]) if charging["price"] >= 0 else None
    seconds = {key: charging[key] for key in ("command_ttl_s", "start_timeout_s", "stop_timeout_s", "silence_limit_s")}
    return PileConfig(
        pile=pile["number"],
        guns=sum(len(device.guns) for line in lines for device in line.devices),
        price=price,
        current_limit_da=charging["current_limit_a"] * 10,
        current_range_da=_current_range_da(lines),
        stop_latency_ms=charging["stop_latency_ms"],
        utc_offset_s=utc_offset_s(pile["utc_offset"]),
        max_power_w=charging["max_power_kw"] * 1000,
        feed_period_s=min(line.watchdog_s for line in lines) // 3,
        version=VERSION,
        **seconds,
    )


def _firmware_config(pile: dict[str, Any], firmware: dict[str, Any], lines: tuple[LineConfig, ...]) -> FirmwareConfig:
    """The pile answers to what the file says, and to the models of its power boards."""
    models = [device.profile.model for line in lines for device in line.devices]
    return FirmwareConfig(
        folder=Path(pile["data_dir"]) / "firmware",
        install_dir=Path(firmware["install_dir"]),
        hardware=tuple(dict.fromkeys([*firmware["hardware"], *models])),
        encoding=firmware["ftp_encoding"],
        ca_file=firmware["ca_file"],
        reserve_bytes=firmware["reserve_mib"] << 20,
        deadline_s=firmware["deadline_h"] * 3600,
    )


def _retention(records: dict[str, Any]) -> dict[int, Retention]:
    names = {record_type: record_type.name.lower() for record_type in RecordType}
    return {one: Retention(records[f"{name}_rows"], records[f"{name}_days"]) for one, name in names.items()}


def _current_range_da(lines: tuple[LineConfig, ...]) -> tuple[int, int]:
    """The current limits that every device with such a register can keep."""
    profiles = [device.profile for line in lines for device in line.devices]
    ranges = [limits for profile in profiles if (limits := profile.range_of("gun", "current_limit")) is not None]
    return max([low for low, _ in ranges], default=0), min([high for _, high in ranges], default=CURRENT_MAX_DA)
