"""The command table: every command of the platform, its fields, its reply, an example. Parser, encoder, CLI help,
docs/protocol.md, simulator and tests are derived from it (source: the platform's document 快乐充 V2 MQ 1.0.9).

Field order is wire order. Units stand in the names: ``_fen`` (1/100 yuan), ``_s`` (epoch or plain seconds), ``_ms``,
``_wh``, ``_dv`` (0.1 V), ``_da`` (0.1 A), ``_dc`` (0.1 °C); ``price`` and ``service_fee`` are 1e-5 yuan per kWh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from agent.protocol.fields import (
    Choice,
    DayEnd,
    DayStart,
    Double,
    Gun,
    InnerPile,
    Int,
    Repeat,
    SizedText,
    Text,
    TextChoice,
)
from agent.protocol.results import GunStatus, RecordType, Result, StopReason, UpdateState
from agent.protocol.rules import Fault, day_fault

YES_NO = {1: "yes", 2: "no"}
FLAG = {0: "no", 1: "yes"}
OPERATIONS = {1: "private closed", 2: "private open", 3: "public free", 4: "public paid"}
STATUSES = {status.value: status.name.lower().replace("_", " ") for status in GunStatus}
STOP_REASONS = {reason.value: reason.name.lower().replace("_", " ") for reason in StopReason}
UPDATE_STATES = {state.value: state.name.lower() for state in UpdateState} | {
    result.value: result.name for result in Result if result.is_error
}
STOPS = (2, 4)  # the types of 101 that end a charge
RECORD_TYPES = {record_type.value: record_type.name.lower() for record_type in RecordType}


class Empty(NamedTuple):
    """No data."""


class StartStop(NamedTuple):
    """Start or stop a charge."""

    type: Annotated[int, Choice({1: "platform start", 2: "platform stop", 3: "app start", 4: "app stop"})]
    pile: Annotated[str, InnerPile()]
    gun: Annotated[int, Gun()]
    account: Annotated[str, Text("account id")]
    balance_fen: Annotated[int, Int("account balance; a stop ignores it", low=0, waived_by=STOPS)]
    prepaid_fen: Annotated[int, Int("prepaid amount; a stop ignores it", low=0, waived_by=STOPS)]
    free_fen: Annotated[int, Int("free amount; a stop ignores it", low=0, waived_by=STOPS)]
    order: Annotated[str, Text("order number")]

    @property
    def is_start(self) -> bool:
        return self.type not in STOPS


class Reserve(NamedTuple):
    """Reserve a gun for an account, or cancel that."""

    type: Annotated[int, Choice({1: "reserve", 2: "cancel"})]
    account: Annotated[str, Text("account that may start a charge")]
    gun: Annotated[int, Gun()]
    start_s: Annotated[int, Int("begin, epoch seconds", low=0)]
    end_s: Annotated[int, Int("end, epoch seconds", low=0)]

    def fault(self) -> Fault | None:
        """A reservation ends after it begins."""
        if self.type == 1 and self.end_s <= self.start_s:
            return Fault("end_s", str(self.end_s), f"a time after start_s, {self.start_s}")
        return None


class QueryReservation(NamedTuple):
    """Ask for a gun's reservation."""

    gun: Annotated[int, Gun()]


class QueryRecords(NamedTuple):
    """Ask for the stored records of one type."""

    type: Annotated[int, Choice(RECORD_TYPES)]


class QrCode(NamedTuple):
    """One gun's QR code, which the screen shows."""

    data: Annotated[str, SizedText("what the QR code says")]
    gun: Annotated[int, Gun()]


class Configure(NamedTuple):
    """Set the pile's local parameters."""

    phase: Annotated[int, Choice({1: "single phase", 3: "three phases"})]
    max_current_a: Annotated[int, Int("largest output current", low=1)]
    mode: Annotated[int, Choice({1: "constant voltage", 2: "constant current"})]
    offline: Annotated[int, Choice(YES_NO, "charging without the platform allowed")]
    offline_records: Annotated[int, Int("how many offline charges may wait for delivery", low=0)]
    guns: Annotated[int, Int("number of guns", low=1)]
    gun_uses: Annotated[int, Int("gun use count", low=0)]
    reservation: Annotated[int, Choice(YES_NO, "reservations allowed")]
    screen_account: Annotated[str, Text("screen login: account")]
    screen_password: Annotated[str, Text("screen login: password", secret=True)]
    heartbeat_s: Annotated[int, Int("heartbeat interval", low=1)]
    server_ip: Annotated[str, Text("broker's address")]
    server_port: Annotated[int, Int("broker's port", low=1, high=65535)]
    qr_codes: Annotated[Sequence[QrCode], Repeat(QrCode, "0: the QR codes stay as they are")]


class SetHeartbeat(NamedTuple):
    """Set how often the pile reports, and how long silence may last."""

    period_s: Annotated[int, Int("report period", low=1)]
    timeout_s: Annotated[int, Int("timeout, at least the period", low=1)]

    def fault(self) -> Fault | None:
        """The timeout is at least the period: a shorter one would always strike."""
        if self.timeout_s < self.period_s:
            return Fault("timeout_s", str(self.timeout_s), f"at least period_s, {self.period_s}")
        return None


class Reboot(NamedTuple):
    """Reboot one gun's controller, or the whole pile."""

    gun: Annotated[int, Gun(whole_pile=True)]


class ConfigureSite(NamedTuple):
    """Tell the pile where it stands and how it is operated."""

    device_type: Annotated[int, Choice({1: "DC fast", 2: "DC slow", 3: "AC fast", 4: "AC slow", 5: "AC and DC"})]
    longitude: Annotated[float, Double("degrees east", -180.0, 180.0)]
    latitude: Annotated[float, Double("degrees north", -90.0, 90.0)]
    bay: Annotated[int, Int("车位号, bay number")]
    parking_bay: Annotated[int, Int("停车位号, parking bay number")]
    station: Annotated[str, Text("number of the station")]
    region: Annotated[str, Text("number of the region")]
    operation: Annotated[int, Choice(OPERATIONS)]


class Period(NamedTuple):
    """One period of a tariff, in local time of day."""

    start_s: Annotated[int, DayStart("begin")]
    end_s: Annotated[int, DayEnd("end")]
    price: Annotated[int, Int("electricity price, 1e-5 yuan per kWh", low=0)]
    service_fee: Annotated[int, Int("service fee, 1e-5 yuan per kWh", low=0)]


class SetTariff(NamedTuple):
    """Set the prices of the day's periods, which must cover 24 hours exactly once."""

    template: Annotated[str, Text("template id")]
    gun: Annotated[int, Gun(whole_pile=True)]
    periods: Annotated[Sequence[Period], Repeat(Period, "the day's periods", least=1)]

    def fault(self) -> Fault | None:
        """The periods cover the day exactly once."""
        return day_fault(self.periods)


class Upgrade(NamedTuple):
    """Announce an upgrade: where the files are, and with which login."""

    ftp_address: Annotated[str, Text("FTP server")]
    ftp_account: Annotated[str, Text("FTP login")]
    ftp_password: Annotated[str, Text("FTP password", secret=True)]
    need: Annotated[str, TextChoice({"1": "upgrade", "2": "no upgrade"})]
    current_version: Annotated[str, Text("version the platform believes to be running")]
    record_id: Annotated[str, Text("record id of this upgrade")]


class UpgradePackage(NamedTuple):
    """Name the file of an announced upgrade, and have it installed."""

    version: Annotated[str, Text("version in the file")]
    record_id: Annotated[str, Text("record id of the upgrade")]
    path: Annotated[str, Text("absolute path on the FTP server")]
    packet_bytes: Annotated[int, Int("block in which the file is read and sent to the power board", low=1)]


class Explanation(NamedTuple):
    """The body of every reply whose result is an error."""

    text: Annotated[str, Text("what was wrong, in words")]


class GunState(NamedTuple):
    """One gun in a heartbeat."""

    gun: Annotated[int, Gun()]
    status: Annotated[int, Choice(STATUSES)]


class Heartbeat(NamedTuple):
    """The pile's state."""

    uptime_s: Annotated[int, Int("since the agent's start", low=0)]
    guns: Annotated[Sequence[GunState], Repeat(GunState, "one row per gun")]


class ChargeReply(NamedTuple):
    """How a start or stop came out."""

    gun: Annotated[int, Gun()]
    order: Annotated[str, Text("order number")]
    status: Annotated[int, Choice(STATUSES)]
    stop_reason: Annotated[int | None, Int("only once a charge has ended", low=1, optional=True)] = None


class ReserveReply(NamedTuple):
    """The reservation as it was taken or cancelled."""

    gun: Annotated[int, Gun()]
    account: Annotated[str, Text("account")]
    start_s: Annotated[int, Int("begin, epoch seconds", low=0)]
    end_s: Annotated[int, Int("end, epoch seconds", low=0)]


class ReservationReply(NamedTuple):
    """A gun's reservation, or none."""

    gun: Annotated[int, Gun()]
    held: Annotated[int, Choice(FLAG)]
    account: Annotated[str, Text("account")]
    start_s: Annotated[int, Int("begin, epoch seconds", low=0)]
    end_s: Annotated[int, Int("end, epoch seconds", low=0)]
    left_s: Annotated[int, Int("time left", low=0)]


class RecordsSummary(NamedTuple):
    """How many records follow."""

    type: Annotated[int, Choice(RECORD_TYPES)]
    total: Annotated[int, Int("records of that type", low=0)]


class Segment(NamedTuple):
    """The part of a charge that lies in one tariff period."""

    start_ms: Annotated[int, Int("begin, epoch", low=0)]
    end_ms: Annotated[int, Int("end, epoch", low=0)]
    energy_wh: Annotated[int, Int("energy", low=0)]
    price: Annotated[int, Int("electricity price, 1e-5 yuan per kWh", low=0)]
    service_fee: Annotated[int, Int("service fee, 1e-5 yuan per kWh", low=0)]
    electricity_fen: Annotated[int, Int("electricity amount", low=0)]
    service_fen: Annotated[int, Int("service amount", low=0)]


class ChargingRecord(NamedTuple):
    """A charge and its bill."""

    type: Annotated[int, Choice({1: "charging"})]
    number: Annotated[int, Int("number of this record in the answer", low=1)]
    total: Annotated[int, Int("records in the answer", low=1)]
    order: Annotated[str, Text("order number")]
    gun: Annotated[int, Gun()]
    account: Annotated[str, Text("account")]
    start_type: Annotated[int, Int("101's type; 5 begun at the pile, by card or button", low=0)]
    start_ms: Annotated[int, Int("begin, epoch", low=0)]
    end_ms: Annotated[int, Int("end, epoch", low=0)]
    meter_start_wh: Annotated[int, Int("meter at the begin", low=0)]
    meter_end_wh: Annotated[int, Int("meter at the end", low=0)]
    energy_wh: Annotated[int, Int("energy", low=0)]
    stop_reason: Annotated[int, Int("why it ended", low=1)]
    electricity_fen: Annotated[int, Int("electricity amount", low=0)]
    service_fen: Annotated[int, Int("service amount", low=0)]
    total_fen: Annotated[int, Int("sum of both", low=0)]
    free_used_fen: Annotated[int, Int("part paid from the free amount", low=0)]
    offline: Annotated[int, Choice(FLAG, "started without the platform")]
    template: Annotated[str, Text("tariff template")]
    segments: Annotated[Sequence[Segment], Repeat(Segment, "one row per tariff period that the charge touched")]


class ProcessRecord(NamedTuple):
    """One measurement during a charge."""

    type: Annotated[int, Choice({2: "process"})]
    number: Annotated[int, Int("number of this record in the answer", low=1)]
    total: Annotated[int, Int("records in the answer", low=1)]
    order: Annotated[str, Text("order number")]
    gun: Annotated[int, Gun()]
    at_ms: Annotated[int, Int("time, epoch", low=0)]
    voltage_dv: Annotated[int, Int("voltage")]
    current_da: Annotated[int, Int("current")]
    power_w: Annotated[int, Int("power")]
    soc_pct: Annotated[int, Int("state of charge")]
    energy_wh: Annotated[int, Int("energy so far", low=0)]
    total_fen: Annotated[int, Int("amount so far", low=0)]
    temperature_dc: Annotated[int, Int("temperature")]


class EventRecord(NamedTuple):
    """Something that happened."""

    type: Annotated[int, Choice({3: "event"})]
    number: Annotated[int, Int("number of this record in the answer", low=1)]
    total: Annotated[int, Int("records in the answer", low=1)]
    sequence: Annotated[int, Int("gap-free number", low=1)]
    at_ms: Annotated[int, Int("time, epoch", low=0)]
    gun: Annotated[int, Gun(whole_pile=True)]
    code: Annotated[int, Int("event code", low=0)]
    text: Annotated[str, Text("in words")]


class AlarmRecord(NamedTuple):
    """A fault raised or cleared."""

    type: Annotated[int, Choice({4: "alarm"})]
    number: Annotated[int, Int("number of this record in the answer", low=1)]
    total: Annotated[int, Int("records in the answer", low=1)]
    sequence: Annotated[int, Int("gap-free number", low=1)]
    at_ms: Annotated[int, Int("time, epoch", low=0)]
    gun: Annotated[int, Gun(whole_pile=True)]
    code: Annotated[int, Int("alarm code", low=0)]
    raised: Annotated[int, Choice({0: "cleared", 1: "raised"})]
    text: Annotated[str, Text("in words")]


class ReplayReport(NamedTuple):
    """How the last 104 went."""

    type: Annotated[int, Choice(RECORD_TYPES)]
    total: Annotated[int, Int("records to send", low=0)]
    delivered: Annotated[int, Int("records the broker has taken", low=0)]


class TariffReply(NamedTuple):
    """When the tariff applies."""

    template: Annotated[str, Text("template id")]
    gun: Annotated[int, Gun(whole_pile=True)]
    applies: Annotated[int, Choice({0: "in force", 1: "from the next order"})]


class UpdateReport(NamedTuple):
    """How far an upgrade is."""

    record_id: Annotated[str, Text("record id of the upgrade")]
    version: Annotated[str, Text("version")]
    state: Annotated[int, Choice(UPDATE_STATES)]
    percent: Annotated[int, Int("progress", low=0, high=100)]


class DeviceVersionRow(NamedTuple):
    """One device's version."""

    device: Annotated[str, Text("name of the device")]
    version: Annotated[str, Text("its version")]


class Versions(NamedTuple):
    """The versions of the agent and of every device behind it."""

    agent: Annotated[str, Text("version of the agent")]
    devices: Annotated[Sequence[DeviceVersionRow], Repeat(DeviceVersionRow, "one row per device", to_end=True)]


class UpgradeReply(NamedTuple):
    """Whether the pile now waits for 114."""

    record_id: Annotated[str, Text("record id of the upgrade")]
    awaited: Annotated[int, Choice({0: "not needed", 1: "114 awaited"})]


class PackageReply(NamedTuple):
    """The file's order taken."""

    record_id: Annotated[str, Text("record id of the upgrade")]
    version: Annotated[str, Text("version")]


@dataclass(frozen=True)
class Command:
    """One command: its number, title, message class, the class or classes its reply may be, and a literal example."""

    number: int
    title: str
    data: type
    replies: tuple[type, ...]
    example: str  # the fields after the pile number
    reply_example: str  # the fields after the result
    expires: bool = False  # refused once older than command_ttl
    purpose: str = ""  # of a command without data; else its message class says it
    note: str = ""  # what its fields alone do not tell

    @property
    def name(self) -> str:
        """The title as one word, for status lines and logs."""
        return self.title.replace(" ", "-")


RECORDS = (RecordsSummary, ChargingRecord, ProcessRecord, EventRecord, AlarmRecord)
RECORD_EXAMPLES = {
    ChargingRecord: "1,1,12,20261122000001,1,U1001,1,1795305600000,1795309200000,500000,507200,7200,3,720,360,1080,0,0,T7,"
                    "1,1795305600000,1795309200000,7200,100000,50000,720,360",
    ProcessRecord: "2,1,12,20261122000001,1,1795305660000,4012,318,12758,55,212,31,285",
    EventRecord: "3,1,12,4711,1795305600000,0,1,version 0.1.0",
    AlarmRecord: "4,1,12,712,1795305600000,1,103,1,gun 1: over_temperature",
}  # fmt: skip

_TABLE = (
    Command(
        100, "heartbeat", Empty, (Heartbeat,), "", "3600,2,1,4,2,1",
        purpose="Ask for the pile's state.",
        note="Also sent unasked every report period (107).",
    ),
    Command(
        101, "start or stop", StartStop, (ChargeReply,),
        "1,0000012345,1,U1001,10000,5000,0,20261122000001", "1,20261122000001,4",
        note="A start is answered 1 ACCEPTED at once, then 0 OK when current may flow, or an error such as 29 START_TIMEOUT. "
        "A stop ignores the money and goes by `order`; its reply adds the stop reason. The reply is also sent unasked when "
        "a charge ends by itself.",
    ),
    Command(
        102, "reserve", Reserve, (ReserveReply,), "1,U1001,1,1795305600,1795309200", "1,U1001,1795305600,1795309200",
        note="A gun may have 32 windows ahead. One that overlaps another account's is 22 RESERVED; the same account's that it "
        "overlaps it replaces. One that is over already is 13 OUT_OF_RANGE, one that has begun on a gun that charges for "
        "another account 21 OCCUPIED, and while 106 forbids reservations any is 14 NOT_SUPPORTED. A cancel takes away the "
        "account's windows that overlap the times given, or where those are no window (both 0) all it has at the gun; the "
        "reply spans what was cancelled, and none is 30 NO_RECORD.",
    ),
    Command(
        103, "query reservation", QueryReservation, (ReservationReply,), "1", "1,1,U1001,1795305600,1795309200,1800",
        note="Told is the window that is open, else the next one; the time left is until its end. While the pile's clock is "
        "not to be believed the time left is 0. Without a reservation the account is empty and all numbers but the gun's are 0.",
    ),
    Command(
        104, "query records", QueryRecords, RECORDS, "1", "1,12",
        note="The first reply is 1 ACCEPTED with the number of records; then comes one message per record, with result 0. "
        "Where there is none the answer is 30 NO_RECORD. The records are those stored when the command came, oldest first, at "
        "a bounded rate (20 a second unless configured) and behind everything else the pile has to say. After a lost link "
        "or a restart they go on behind the last one the broker has taken. The next 104, of whatever type, ends the "
        "replay before it. Nothing is deleted by it. A record is also sent unasked when it closes, as number 1 of 1.",
    ),
    Command(
        105, "query delivery", Empty, (ReplayReport,), "", "1,12,12",
        purpose="Ask how the last 104 went.",
        note="If there was none the answer is 30 NO_RECORD. `delivered` counts what the broker has taken; after a restart it "
        "may be up to 100 behind, and as many records are sent once more.",
    ),
    Command(
        106, "configure", Configure, (Empty,),
        "3,32,2,1,100,2,1000,1,admin,secret,30,127.0.0.1,1883,2,10,https://a/,1,12,https://b,,1,2", "",
        note="The first reply is 1 ACCEPTED, or 2 DEFERRED while a gun has to be waited for; nothing of it is in force before "
        "0 OK, and then all of it. See [106 step by step](#106-step-by-step).",
    ),
    Command(
        107, "set heartbeat", SetHeartbeat, (SetHeartbeat,), "30,90", "30,90",
        note="Until the first 107 the period is 30 s and the timeout 90 s.",
    ),
    Command(
        108, "reboot", Reboot, (Reboot,), "0", "0", expires=True,
        note="While a gun concerned is charging the first reply is 2 DEFERRED. 0 OK is sent before the reboot.",
    ),
    Command(
        109, "configure site", ConfigureSite, (Empty,), "1,121.4737,31.2304,12,3,ST01,310000,4", "",
        note="With operation 3 a start needs neither tariff nor money. A charge that runs keeps its price.",
    ),
    Command(
        110, "set tariff", SetTariff, (TariffReply,),
        "T7,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000", "T7,0,0",
        note="An order keeps the tariff it started with.",
    ),
    Command(
        111, "query update", Empty, (UpdateReport,), "", "R9,1.2.0,2,40",
        purpose="Ask how far an upgrade is.",
        note="Also sent unasked whenever the state changes, and each 10 % while the link is up. Without an upgrade the record "
        "id is empty and the version is the agent's. Its stages stand in [docs/updates.md](updates.md).",
    ),
    Command(
        112, "query versions", Empty, (Versions,), "", "0.1.0,board,3.2.1",
        purpose="Ask for the versions of the agent and of every device behind it.",
    ),
    Command(
        113, "upgrade", Upgrade, (UpgradeReply,), "127.0.0.1:2121,pile,secret,1,0.1.0,R9", "R9,1", expires=True,
        note="With need 1 the pile waits for the 114 of the same record id, and keeps the login until then. An address is a host "
        "with or without a port, or begins with `ftp://` or, for explicit TLS, `ftps://`. What happens to a second 113 or 114 "
        "stands in [docs/updates.md](updates.md).",
    ),
    Command(
        114, "upgrade package", UpgradePackage, (PackageReply,),
        "0.2.0,R9,/firmware/pile-0.2.0.bundle,1024", "R9,0.2.0", expires=True,
        note="Without a 113 before it the answer is 50 NO_CREDENTIALS. The first reply is 1 ACCEPTED; 2 DEFERRED follows when a gun "
        "has to be waited for; 0 OK means that the new version is in force. 111 tells the progress.",
    ),
)  # fmt: skip

COMMANDS = {command.number: command for command in _TABLE}
