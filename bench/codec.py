"""The message codec beside what one would write instead: ``python -m bench.codec`` from the top folder.

Every peer does the whole job: bytes in; UTF-8, comma rules, control characters, field count, numbers, ranges and
cross-field rules checked; typed values out. What a library's own conversion lets through is not tightened, but counted:
the tables say how many of the bad lines each peer refuses. Nothing here fails for being slow.
"""

import importlib
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

from agent.protocol.codec import CHINA_OFFSET_S, Codec
from agent.protocol.rules import DAY_S, clock
from bench.chart import Plot
from bench.sample import Sample, Target, compare, in_turns, per_call, per_statement, ratio, table
from cext.message import pile_of

ROUNDS = 15
HEADER = b"192.168.1.100,API:2.0.2,%d,1795305600000,0000012345,"
START = HEADER % 101 + b"1,0000012345,1,U1001,10000,5000,0,20261122000001"
INT64 = 2**63
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
DIGITS = re.compile(r"-?[0-9]+\Z").match
CLOCK = re.compile(r"([0-9]{2}):([0-5][0-9]):([0-5][0-9])\Z").match

Parse = Callable[[bytes], Any]  # of a line; its values flat in wire order, or ValueError


@dataclass
class Peer:
    """Someone who parses the two messages; ``flat`` makes what it returns comparable."""

    name: str
    start: Parse
    tariff: Parse
    flat: Callable[[Any], tuple[Any, ...]]


def tariff(periods: int) -> bytes:
    """A 110 whose periods share the day, their ends inclusive as the platform writes them."""
    edges = [DAY_S * number // periods // 60 * 60 for number in range(periods + 1)]
    rows = ",".join(f"{clock(begin)},{clock(end - 1)},{100000 + begin},50000" for begin, end in pairwise(edges))
    return HEADER % 110 + f"T7,0,{periods},".encode() + rows.encode()


# ---- what every peer needs: the line's own rules, in plain Python ----


def split_line(line: bytes) -> list[str]:
    if len(line) > 65536:
        raise ValueError("oversize")
    text = line.decode()
    if CONTROL.search(text) or text.endswith(","):
        raise ValueError("control character or trailing comma")
    return text.split(",")


def integer(text: str, low: int = -INT64, high: int = INT64 - 1) -> int:
    if not DIGITS(text):
        raise ValueError(f"{text!r} is no integer")
    value = int(text)
    if not low <= value <= high:
        raise ValueError(f"{value} is not in {low}..{high}")
    return value


def second_of_day(text: str) -> int:
    found = CLOCK(text)
    if found:
        second = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
        if second > DAY_S:
            raise ValueError(f"{text} is no time")
        return second
    value = integer(text, 0)
    if DAY_S < value < 10**9:
        raise ValueError(f"{text} is no time")
    if value >= 10**12:
        value //= 1000
    return (value + CHINA_OFFSET_S) % DAY_S if value >= 10**9 else value


def end_of_period(text: str) -> int:
    second = second_of_day(text)
    return second + 1 if second % 60 == 59 else second or DAY_S


def check_day(edges: list[tuple[int, int]]) -> None:
    spans = []
    for start, end in edges:
        spans += [(start, end)] if start < end else [(0, end), (start, DAY_S)]
    spans.sort()
    reached = 0
    for start, end in spans:
        if start != reached or start == end:
            raise ValueError("not a day")
        reached = end
    if reached != DAY_S:
        raise ValueError("not a day")


def check_start(kind: int, inner: str, pile: str, money: tuple[int, int, int]) -> None:
    if inner != pile or (kind in (1, 3) and min(money) < 0):
        raise ValueError("wrong pile or negative money")


# ---- split + dataclass ----


@dataclass(slots=True)
class Envelope:
    ip: str
    version: str
    command: int
    timestamp: int
    pile: str
    data: Any


@dataclass(slots=True)
class StartStop:
    type: int
    pile: str
    gun: int
    account: str
    balance_fen: int
    prepaid_fen: int
    free_fen: int
    order: str


@dataclass(slots=True)
class Period:
    start_s: int
    end_s: int
    price: int
    service_fee: int


@dataclass(slots=True)
class SetTariff:
    template: str
    gun: int
    periods: list[Period]


def envelope_of(fields: list[str], data: Any) -> Envelope:
    if not 1 <= len(fields[4]) <= 32:
        raise ValueError("pile number")
    return Envelope(fields[0], fields[1], integer(fields[2]), integer(fields[3]), fields[4], data)


def dataclass_start(line: bytes) -> Envelope:
    fields = split_line(line)
    if len(fields) != 13:
        raise ValueError(f"{len(fields)} fields")
    _, _, _, _, pile, kind, inner, gun, account, balance, prepaid, free, order = fields
    data = StartStop(
        integer(kind, 1, 4), inner, integer(gun, 1), account, integer(balance), integer(prepaid), integer(free), order
    )
    check_start(data.type, inner, pile, (data.balance_fen, data.prepaid_fen, data.free_fen))
    return envelope_of(fields, data)


def dataclass_tariff(line: bytes) -> Envelope:
    fields = split_line(line)
    count = integer(fields[7], 1)
    if len(fields) != 8 + 4 * count:
        raise ValueError(f"{len(fields)} fields")
    periods = [
        Period(
            second_of_day(fields[at]),
            end_of_period(fields[at + 1]),
            integer(fields[at + 2], 0),
            integer(fields[at + 3], 0),
        )
        for at in range(8, len(fields), 4)
    ]
    check_day([(period.start_s, period.end_s) for period in periods])
    return envelope_of(fields, SetTariff(fields[5], integer(fields[6], 0), periods))


# ---- msgspec: the text's own rules by hand, then its conversion of a list of strings ----


def msgspec_peer(msgspec: Any) -> Peer:
    def ints(low: int = -INT64, high: int = INT64 - 1) -> Any:
        return Annotated[int, msgspec.Meta(ge=low, le=high)]

    def struct(name: str, **fields: Any) -> Any:
        return msgspec.defstruct(name, list(fields.items()), array_like=True, forbid_unknown_fields=True)

    pile = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    envelope = {"ip": str, "version": str, "command": ints(), "timestamp": ints(), "pile": pile}
    start = struct(
        "Start", **envelope, type=ints(1, 4), inner=str, gun=ints(1), account=str,
        balance_fen=ints(), prepaid_fen=ints(), free_fen=ints(), order=str,
    )  # fmt: skip
    head = struct("Head", **envelope, template=str, gun=ints(0), count=ints(1))
    row = struct("Row", start_s=ints(0), end_s=ints(0), price=ints(0), service_fee=ints(0))
    rows: Any = list[row]  # type: ignore[valid-type]

    def parse_start(line: bytes) -> Any:
        data = msgspec.convert(split_line(line), start, strict=False)
        check_start(data.type, data.inner, data.pile, (data.balance_fen, data.prepaid_fen, data.free_fen))
        return data

    def parse_tariff(line: bytes) -> Any:
        fields = split_line(line)
        message = msgspec.convert(fields[:8], head, strict=False)
        periods = msgspec.convert(list(timed_rows(fields, message.count)), rows, strict=False)
        check_day([(period.start_s, period.end_s) for period in periods])
        return message, periods

    def flat(parsed: Any) -> tuple[Any, ...]:
        values = msgspec.structs.astuple
        return (*values(parsed[0]), *map(values, parsed[1])) if isinstance(parsed, tuple) else (*values(parsed),)

    return Peer("split + msgspec", parse_start, parse_tariff, flat)


def timed_rows(fields: list[str], count: int) -> Iterator[tuple[int, int, str, str]]:
    if len(fields) != 8 + 4 * count:
        raise ValueError(f"{len(fields)} fields")
    for at in range(8, len(fields), 4):
        yield second_of_day(fields[at]), end_of_period(fields[at + 1]), fields[at + 2], fields[at + 3]


# ---- pydantic: the same, from dicts of strings ----


def pydantic_peer(pydantic: Any) -> Peer:
    def ints(low: int = -INT64, high: int = INT64 - 1) -> Any:
        return Annotated[int, pydantic.Field(ge=low, le=high)]

    pile = Annotated[str, pydantic.Field(min_length=1, max_length=32)]
    envelope = {"ip": str, "version": str, "command": ints(), "timestamp": ints(), "pile": pile}
    start_fields = envelope | {"type": ints(1, 4), "inner": str, "gun": ints(1), "account": str}
    start_fields |= {"balance_fen": ints(), "prepaid_fen": ints(), "free_fen": ints(), "order": str}
    start = pydantic.create_model("Start", **start_fields)
    row = pydantic.create_model(
        "Row",
        start_s=Annotated[int, pydantic.BeforeValidator(second_of_day)],
        end_s=Annotated[int, pydantic.BeforeValidator(end_of_period)],
        price=ints(0),
        service_fee=ints(0),
    )
    head_fields = envelope | {"template": str, "gun": ints(0), "count": ints(1)}
    message = pydantic.create_model("Tariff", **head_fields, periods=list[row])  # type: ignore[valid-type]
    start_names, head_names, row_names = tuple(start_fields), tuple(head_fields), tuple(row.model_fields)

    def parse_start(line: bytes) -> Any:
        data = start.model_validate(dict(zip(start_names, split_line(line), strict=True)))
        check_start(data.type, data.inner, data.pile, (data.balance_fen, data.prepaid_fen, data.free_fen))
        return data

    def parse_tariff(line: bytes) -> Any:
        fields = split_line(line)
        values: dict[str, Any] = dict(zip(head_names, fields[:8], strict=True))
        values["periods"] = [dict(zip(row_names, fields[at : at + 4], strict=True)) for at in range(8, len(fields), 4)]
        data = message.model_validate(values)
        if len(data.periods) != data.count:
            raise ValueError(f"{len(data.periods)} periods")
        check_day([(period.start_s, period.end_s) for period in data.periods])
        return data

    def flat(parsed: Any) -> tuple[Any, ...]:
        values = parsed.model_dump()
        periods = values.pop("periods", [])
        return tuple(values.values()) + tuple(tuple(period.values()) for period in periods)

    return Peer("split + pydantic", parse_start, parse_tariff, flat)


# ---- ours, and the plain dataclasses above ----


def our_peer() -> Peer:
    def flat(message: Any) -> tuple[Any, ...]:
        envelope = (message.ip, message.version, message.command, message.timestamp, message.pile)
        if message.command == 101:
            return envelope + tuple(message.data)
        template, gun, periods = message.data
        return (*envelope, template, gun, len(periods), *map(tuple, periods))

    decode = Codec().decode
    return Peer("cext.message", decode, decode, flat)


def dataclass_peer() -> Peer:
    def flat(message: Envelope) -> tuple[Any, ...]:
        envelope = (message.ip, message.version, message.command, message.timestamp, message.pile)
        if isinstance(message.data, StartStop):
            return envelope + astuple(message.data)
        data: SetTariff = message.data
        return (*envelope, data.template, data.gun, len(data.periods), *map(astuple, data.periods))

    return Peer("split + dataclass", dataclass_start, dataclass_tariff, flat)


def peers() -> list[Peer]:
    """Ours first; a library that is not installed is left out, and said to be."""
    found = [our_peer(), dataclass_peer()]
    for name, make in (("msgspec", msgspec_peer), ("pydantic", pydantic_peer)):
        try:
            found.append(make(importlib.import_module(name)))
        except ImportError:
            print(f"{name} is missing")
    return found


# ---- measuring ----

BAD_STARTS = [
    START.replace(*change)
    for change in (
        (b",1,U1001", b",1.0,U1001"), (b",1,U1001", b", 1,U1001"), (b",1,U1001", b",1_0,U1001"),
        (b",1,U1001", b",0,U1001"), (b",10000,", b",,"), (b",10000,", b",-1,"), (b",10000,", b",9223372036854775808,"),
        (b",5000,0", b",5000"), (b"U1001", b"U\x7f"), (b"U1001", b"U\xff"),
        (b"0000012345,1,U", b"0000012346,1,U"), (b"000001", b"000001,"),
    )
]  # fmt: skip
BAD_TARIFFS = [
    tariff(48).replace(*change)
    for change in (
        (b"00:30:00", b"00:30:60"), (b"00:30:00", b"00:31:00"), (b"00:30:00", b"1801"), (b"00:30:00", b"86401"),
        (b",48,", b",47,"), (b",48,", b",0,"), (b",50000", b",-1"), (b",50000", b","), (b",50000", b",1e3"),
    )
]  # fmt: skip
PERIODS = (1, 6, 12, 48, 240, 1440)
FOREIGN = [START + b"x" * (size - len(START)) for size in (len(START), 1024, 65536)]


def refused(parse: Parse, lines: list[bytes]) -> int:
    count = 0
    for line in lines:
        try:
            parse(line)
        except ValueError:
            count += 1
    return count


def side_by_side(title: str, line: bytes, everyone: list[Peer], job: str, bad: list[bytes]) -> dict[str, list[float]]:
    """One message by all peers; ``job`` is the peer's function that parses it. Their samples in microseconds."""
    parsers: dict[str, Parse] = {peer.name: getattr(peer, job) for peer in everyone}
    wanted = everyone[0].flat(parsers[everyone[0].name](line))
    for peer in everyone:
        got = peer.flat(parsers[peer.name](line))
        assert got == wanted, f"{peer.name} reads {got}, not {wanted}"
    samples = in_turns({name: per_call(partial(parse, line)) for name, parse in parsers.items()}, ROUNDS)
    compare(f"{title} ({len(line)} bytes)", samples)
    shares = ", ".join(f"{name} {refused(parse, bad)}" for name, parse in parsers.items())
    print(f"  refused, of {len(bad)} bad lines: {shares}")
    return samples


def targets(what: str, samples: dict[str, list[float]], least: dict[str, float]) -> list[Target]:
    ours = samples["cext.message"]
    return [
        Target(what, name, ratio(samples[name], ours), bound, is_least=True)
        for name, bound in least.items()
        if name in samples
    ]


def growth(everyone: list[Peer]) -> list[Target | Plot]:
    lines: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in everyone}
    for periods in PERIODS:
        line = tariff(periods)
        samples = in_turns({peer.name: per_call(partial(peer.tariff, line)) for peer in everyone}, 5)
        for name, taken in samples.items():
            lines[name].append((periods, statistics.median(taken)))
    rows = [
        (f"{periods}", *(f"{taken[at][1]:.2f} µs" for taken in lines.values())) for at, periods in enumerate(PERIODS)
    ]
    table("110 by its number of periods", ("periods", *lines), rows)
    each = [taken / periods for periods, taken in lines["cext.message"]]
    return [
        Target(f"110: a period of {PERIODS[-1]:,}", f"of {PERIODS[-3]}", each[-1] / each[-3], 1.2),
        Plot("periods", "Parsing 110 is linear in its periods", "periods", "µs", lines),
    ]


def not_mine() -> list[Target]:
    """The whole question, comparison included, as the agent asks it."""
    samples = in_turns({f"{len(line):,} bytes": _asked(line) for line in FOREIGN}, ROUNDS)
    compare("another pile's line, told by its header alone", samples, "ns")
    short_ns, *_, long_ns = samples.values()
    return [
        Target("“not mine” on a foreign message", "", statistics.median(short_ns), 150, "ns"),
        Target("the same at 64 KiB", "", statistics.median(long_ns), 150, "ns"),
    ]


def _asked(line: bytes) -> Sample:
    sample_us = per_statement("pile_of(line) == pile", pile_of=pile_of, line=line, pile=b"0000000001")
    return lambda: sample_us() * 1000


def main() -> list[Target | Plot]:
    everyone = peers()
    start = side_by_side("101 start", START, everyone, "start", BAD_STARTS)
    day = side_by_side("110 with 48 periods", tariff(48), everyone, "tariff", BAD_TARIFFS)
    return [
        *targets("parse 101", start, {"split + dataclass": 5, "split + msgspec": 3, "split + pydantic": 10}),
        *targets("parse 110, 48 periods", day, {"split + dataclass": 30, "split + msgspec": 8, "split + pydantic": 20}),
        *growth(everyone),
        *not_mine(),
    ]


if __name__ == "__main__":
    main()
