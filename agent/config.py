"""Reading the configuration file by its table of keys (agent/config_keys.py), every fault named at once."""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config_keys import BY_NAME, REQUIRED, Key, Section
from agent.link.config import LinkConfig, TlsConfig
from agent.pile.money import Price
from agent.pile.state import PileConfig
from agent.power.config import DeviceConfig, LineConfig
from agent.power.profile import Profile, ProfileError, load_profile
from agent.protocol.offset import utc_offset_s
from agent.version import VERSION


class ConfigError(Exception):
    """A configuration that can't be used. ``faults``: every reason, each naming key, value and what was expected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Config:
    """Everything the agent runs by."""

    pile: PileConfig
    link: LinkConfig
    lines: tuple[LineConfig, ...]
    ip: str
    api_version: str
    utc_offset_s: int
    data_dir: Path
    socket: Path
    reboot_command: tuple[str, ...]
    log_level: str


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
        self._refuse_unknown(self._tree, ("pile", "broker", "line", "charging"), "")
        pile = self._table("pile", self._tree)
        broker = self._table("broker", self._tree, ("tls",))
        charging = self._table("charging", self._tree)
        lines = tuple(self._lines())
        guns = self._guns(lines)
        link = self._made(lambda: self._link(pile, broker))
        for directory in (Path(pile["data_dir"]), Path(pile["socket"]).parent) if not self._faults else ():
            if not directory.is_dir():
                self._fault("pile", "data_dir or socket", str(directory), "a directory that exists")
        if not all(isinstance(word, str) for word in pile["reboot_command"] or ()):
            self._fault("pile", "reboot_command", pile["reboot_command"], "a list of texts")
        if self._faults or link is None:
            raise ConfigError(self._faults)
        return Config(
            pile=_pile_config(pile, charging, guns, min(line.watchdog_s for line in lines)),
            link=link,
            lines=lines,
            ip=pile["ip"],
            api_version=pile["version"],
            utc_offset_s=utc_offset_s(pile["utc_offset"]),
            data_dir=Path(pile["data_dir"]),
            socket=Path(pile["socket"]),
            reboot_command=tuple(pile["reboot_command"]),
            log_level=pile["log_level"],
        )

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
        )

    def _password(self, broker: dict[str, Any]) -> str | None:
        if not broker["password_file"]:
            return broker["password"] or None
        try:
            return Path(broker["password_file"]).read_text(encoding="utf-8").split("\n", 1)[0]
        except (OSError, UnicodeDecodeError) as error:
            self._fault("broker", "password_file", broker["password_file"], f"a readable file ({error})")
            return None

    def _tls(self) -> TlsConfig | None:
        tree = self._tree.get("broker", {}).get("tls")
        if tree is None:
            return None
        tls = self._table("tls", {"tls": tree}, section=BY_NAME["broker.tls"])
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
            guns = values["guns"] if isinstance(values["guns"], list) else []
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

    def _guns(self, lines: tuple[LineConfig, ...]) -> int:
        """How many guns there are: the devices' numbers must be 1..n, each once; units and ports once too."""
        guns = sorted(gun for line in lines for device in line.devices for gun in device.guns)
        if guns != list(range(1, len(guns) + 1)):
            self._fault("line.device", "guns", guns, f"all devices together to have each of 1..{len(guns)} once")
        for line in lines:
            units = [device.unit for device in line.devices]
            if len(set(units)) != len(units):
                self._fault("line.device", "unit", units, f"each unit once on {line.port}")
        ports = [line.port for line in lines]
        names = [device.name for line in lines for device in line.devices]
        for key, values in (("line.port", ports), ("line.device.name", names)):
            if len(set(values)) != len(values):
                self._fault("", key, values, "each once")
        return len(guns)

    # ---- tables and values ----

    def _table(
        self, name: str, tree: dict[str, Any], inner: tuple[str, ...] = (), section: Section | None = None
    ) -> dict[str, Any]:
        section = section or BY_NAME[name]
        if name not in tree and not section.optional:
            self._faults.append(f"{self._path}: [{name}] is missing: {section.doc}")
        found = tree.get(name, {})
        if not isinstance(found, dict):
            self._fault("", name, found, "a table")
            found = {}
        return self._values(section, found, section.name, inner)

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

    def _made(self, make: Callable[[], LinkConfig]) -> LinkConfig | None:
        try:
            return make()
        except ValueError as error:
            self._faults.append(f"{self._path}: broker: {error}")
            return None


_LINE_FIELDS = ("port", "baud", "parity", "stop_bits", "local_echo", "poll_ms", "statistics_ms", "watchdog_s", "tries")


def _pile_config(pile: dict[str, Any], charging: dict[str, Any], guns: int, watchdog_s: int) -> PileConfig:
    price = Price(charging["price"], charging["service_fee"]) if charging["price"] >= 0 else None
    seconds = {key: charging[key] for key in ("command_ttl_s", "start_timeout_s", "stop_timeout_s", "silence_limit_s")}
    return PileConfig(
        pile=pile["number"],
        guns=guns,
        price=price,
        current_limit_da=charging["current_limit_a"] * 10,
        stop_latency_ms=charging["stop_latency_ms"],
        feed_period_s=max(watchdog_s // 3, 1),
        version=VERSION,
        **seconds,
    )
