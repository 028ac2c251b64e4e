"""The keys of the configuration file: one table, from which reading, checking and the example file are derived."""

import re
from dataclasses import dataclass
from typing import Any

from agent.protocol.offset import PATTERN as UTC_OFFSET

REQUIRED = object()


@dataclass(frozen=True)
class Form:
    """What a text must look like, as a pattern and in words."""

    pattern: str
    words: str


NUMBER = Form(r"[A-Za-z0-9_-]{1,32}", "1 to 32 letters, digits, _ or -")  # what every broker can carry in a topic
FIELD = Form(r"[^,\x00-\x1f\x7f-\x9f]*", "text without comma or control character")
NAME = Form(r"[^,\x00-\x1f\x7f-\x9f]{1,32}", "1 to 32 characters, no comma or control character")
TOPIC_LEVEL = Form(r"[^+#/\x00-\x1f\x7f-\x9f]+", "text without +, #, / or control character")
HOST = Form(r"[^\s/]+", "a host's name or address")
OFFSET = Form(UTC_OFFSET, "+HH:MM or -HH:MM")
FILE = Form(r"[^\x00]+", "the path of a file")


class ConfigError(Exception):
    """A configuration that can't be used. ``faults``: every reason, each naming key, value and what was expected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Key:
    """One key: what it may hold, its default, and its line in the example file."""

    name: str
    kind: type
    default: Any
    doc: str
    low: int | None = None
    high: int | None = None
    choices: tuple[Any, ...] = ()
    form: Form | None = None
    secret: bool = False
    sample: Any = None  # what the example shows where there is no default

    def fault(self, value: Any) -> str | None:
        """What was expected instead of ``value``; ``None`` when it is good."""
        kind: type = type(value)
        if kind is not self.kind:
            return _KIND_WORDS[self.kind]
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.form is not None and not re.fullmatch(self.form.pattern, value):
            return self.form.words
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            return f"an integer from {self.low}" if self.high is None else f"an integer {self.low}..{self.high}"
        return None


_KIND_WORDS = {str: "text", int: "an integer", bool: "true or false", list: "a list"}


@dataclass(frozen=True)
class Section:
    """One table of the file. ``repeats``: an array of tables, at least one."""

    name: str
    doc: str
    keys: tuple[Key, ...]
    repeats: bool = False
    optional: bool = False


SECTIONS = (
    Section("pile", "The pile itself.", (
        Key("number", str, REQUIRED, "the pile's number on the platform, leading zeros kept", form=NUMBER, sample="0000012345"),
        Key("ip", str, "0.0.0.0", "what our messages carry in their first field", form=FIELD),
        Key("version", str, "API:2.0.2", "what our messages carry in their second field", form=FIELD),
        Key("utc_offset", str, "+08:00", "local time, for tariffs; a fixed offset", form=OFFSET),
        Key("data_dir", str, "/var/lib/pile-agent", "where the journal lives; must exist", form=FILE),
        Key("socket", str, "/run/pile-agent/control.sock", "Unix socket that `pile-agent status` and `watch` ask", form=FILE),
        Key("reboot_command", list, [], "how 108 with gun 0 restarts the Linux board, e.g. [\"systemctl\", \"reboot\"]; empty: it does not"),
        Key("log_level", str, "info", "how much is logged", choices=("debug", "info", "warning", "error")),
    )),
    Section("broker", "The MQTT broker, and how the pile logs in there.", (
        Key("host", str, REQUIRED, "name or address", form=HOST, sample="broker.example"),
        Key("port", int, 1883, "port; 8883 is usual with TLS", low=1, high=65535),
        Key("client_id", str, "", "MQTT client id; empty: the pile's number"),
        Key("username", str, "", "login; empty: none"),
        Key("password", str, "", "password of that login; better kept in password_file", secret=True),
        Key("password_file", str, "", "file whose first line is the password"),
        Key("mode", str, "shared", "shared: one command topic for all piles, filtered here; routed: this pile's own", choices=("shared", "routed")),
        Key("topic_prefix", str, "klc", "first level of all topics", form=TOPIC_LEVEL),
        Key("protocol", str, "3.1.1", "MQTT version", choices=("3.1.1", "5")),
        Key("keepalive_s", int, 30, "MQTT keep-alive", low=5, high=3600),
        Key("connect_timeout_s", int, 10, "for each step of a connection", low=1, high=120),
        Key("boot_spread_s", int, 10, "after a boot of the board the first dial waits a random time up to this, as all dial when the power is back; 0: at once", low=0, high=600),
        Key("trial_timeout_s", int, 60, "how long a new server (command 106) is tried before the old one is kept", low=5, high=600),
        Key("fallback_s", int, 600, "a server set by 106 that is out of reach for so long is left for the one of this file, and back", low=30, high=86400),
    )),
    Section("broker.tls", "TLS; leave the section out for a plain connection. PEM files, read anew at every connect.", (
        Key("ca_file", str, "", "authorities to trust; empty: the system's"),
        Key("cert_file", str, "", "client certificate; empty: none"),
        Key("key_file", str, "", "its key; empty: it is in cert_file"),
    ), optional=True),
    Section("line", "A serial line; repeat the section for each.", (
        Key("port", str, REQUIRED, "device file; a stable name from udev is best", form=FILE, sample="/dev/pile0"),
        Key("baud", int, 9600, "speed", choices=(1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)),
        Key("parity", str, "N", "N none, E even, O odd", choices=("N", "E", "O")),
        Key("stop_bits", int, 1, "stop bits", choices=(1, 2)),
        Key("local_echo", bool, False, "the adaptor hears its own sending"),
        Key("poll_ms", int, 1000, "how often the guns are measured", low=50, high=60_000),
        Key("statistics_ms", int, 60_000, "how often slow values are read", low=1000, high=3_600_000),
        Key("watchdog_s", int, 10, "the board stops charging when not fed for so long", low=5, high=600),
        Key("answer_ms", int, 0, "how long a board may think before it answers; 0: as its profile says", low=0, high=5000),
        Key("tries", int, 3, "how often a transaction is tried", low=1, high=10),
    ), repeats=True),
    Section("line.device", "A power board on that line; repeat the section for each.", (
        Key("name", str, "board", "what logs, status and 112 call it", form=NAME),
        Key("unit", int, 1, "Modbus unit address", low=1, high=247),
        Key("profile", str, "reference", "its register map: a profile's name, or the path of a profile file"),
        Key("guns", list, REQUIRED, "the pile's numbers of its gun 1, 2, …; all devices together have 1..n", sample=[1, 2]),
    ), repeats=True),
    Section("charging", "Charging.", (
        Key("price", int, -1, "electricity, 1e-5 yuan per kWh, until command 110 sets a tariff; -1: no tariff, starts are refused", low=-1),
        Key("service_fee", int, 0, "service fee, 1e-5 yuan per kWh; price and fee 0: charging is free", low=0),
        Key("current_limit_a", int, 32, "largest current of a gun, until command 106 sets another", low=6, high=1000),
        Key("command_ttl_s", int, 120, "a start or reboot older than this is not carried out", low=1, high=86400),
        Key("start_timeout_s", int, 60, "how long a start may take until current flows", low=5, high=600),
        Key("stop_timeout_s", int, 30, "how long a stop may take until no current flows", low=5, high=600),
        Key("stop_latency_ms", int, 3000, "from deciding a stop to no current; the charge is stopped so much before its cap", low=0, high=60_000),
        Key("max_power_kw", int, 500, "more than a gun can ever deliver: a meter that counts faster has jumped, and is not billed", low=1, high=10_000),
        Key("silence_limit_s", int, 300, "a charge is closed when its board was silent for so long", low=10, high=86400),
    ), optional=True),
    Section("records", "How many records are kept and for how long. What the broker has not taken yet is kept apart.", (
        Key("charging_rows", int, 100_000, "charges and their bills: how many", low=1),
        Key("charging_days", int, 1095, "charges and their bills: for how many days", low=1, high=36_500),
        Key("process_rows", int, 200_000, "measurements during charges: how many", low=1),
        Key("process_days", int, 90, "measurements during charges: for how many days", low=1, high=36_500),
        Key("event_rows", int, 50_000, "events: how many", low=1),
        Key("event_days", int, 365, "events: for how many days", low=1, high=36_500),
        Key("alarm_rows", int, 50_000, "alarms: how many", low=1),
        Key("alarm_days", int, 365, "alarms: for how many days", low=1, high=36_500),
        Key("replay_per_s", int, 20, "records sent a second after a 104", low=1, high=500),
    ), optional=True),
    Section("firmware", "Upgrades by 113 and 114 (docs/operations/updates.md).", (
        Key("install_dir", str, "", "where releases and trusted keys lie, written by the installer alone; empty: no upgrades", sample="/opt/pile-agent"),
        Key("hardware", list, [], "names of this pile's hardware that an image may be signed for, beside its power boards' models"),
        Key("ftp_encoding", str, "utf-8", "how paths are written on the FTP server", choices=("utf-8", "gbk")),
        Key("ca_file", str, "", "authorities to trust on an ftps:// address; empty: the system's"),
        Key("reserve_mib", int, 64, "disk space that an upgrade leaves for billing", low=1, high=65536),
        Key("deadline_h", int, 4, "how long fetching a file may take", low=1, high=168),
    ), optional=True),
)  # fmt: skip

BY_NAME = {section.name: section for section in SECTIONS}
