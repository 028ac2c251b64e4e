"""What is said about a bad line: the right field is named, secrets are not, and nothing leaks or breaks on the way."""

import gc
import itertools
import tracemalloc

import pytest
from codec_helpers import CODEC, HEADER, PILE, line, outcome, refused, wrong

from agent.protocol.commands import COMMANDS, Configure, SetTariff
from agent.protocol.fields import fields_of
from agent.protocol.results import Result
from cext.message import Codec as LineCodec
from cext.message import FieldKind, FieldSpec, MessageError, Rows, Shape

WITH_DATA = [number for number in COMMANDS if fields_of(COMMANDS[number].data)]
SIMPLE = [number for number in WITH_DATA if number not in (106, 110)]


# ---- wrong counts ----


@pytest.mark.parametrize("number", WITH_DATA)
def test_no_data_at_all_names_the_first_field(number: int) -> None:
    assert wrong(number) == (Result.MALFORMED, next(iter(fields_of(COMMANDS[number].data))))


@pytest.mark.parametrize("number", SIMPLE)
def test_each_missing_field_is_named(number: int) -> None:
    """Cut off behind its k-th field, a message lacks the next one."""
    values = COMMANDS[number].example.split(",")
    for kept, name in enumerate(fields_of(COMMANDS[number].data)):
        error = refused(line(number, ",".join(values[:kept])))
        assert (error.result, error.field, error.value) == (Result.MALFORMED, name, None)
        assert error.expected.endswith(", but the message ends before it")


@pytest.mark.parametrize("number", COMMANDS)
def test_one_field_too_many_is_shown(number: int) -> None:
    data = COMMANDS[number].example
    error = refused(line(number, f"{data},surplus" if data else "surplus"))
    assert (error.result, error.field) == (Result.MALFORMED, "end")
    assert error.value == (None if number in (106, 113) else "'surplus'")
    last = next(reversed(fields_of(COMMANDS[number].data)), "the pile number")
    assert error.expected == f"nothing after {last}"


def test_a_row_is_named_by_its_number() -> None:
    error = refused(line(110, "T,0,2,00:00:00,12:00:00,1,1,12:00:00,24:00:00,x,1"))
    assert str(error) == "periods[1].price = 'x': expected an integer from 0"


# ---- secrets ----

SECRET = "71717171"  # digits: it fits where a number is expected
PASSWORDS = [
    (106, f"3,32,2,1,100,2,1000,1,12,{SECRET},30,10.0.0.1,1883,1,3,a,b,1"),
    (113, f"10.0.0.2,pile,{SECRET},1,0.1.0,R9"),
    (113, f"10.0.0.2,pile,{SECRET},{SECRET}x,1,0.1.0,R9"),
]
SPOILT = [
    "",
    "-1",
    "x",
    "\x01",
    "99999999999999999999",
    f"{SECRET}\x01",
    SECRET + "9" * 60,
    f"1,{SECRET}",
    ",,",
    "\xff",
]


def spoilt_lines(number: int, data: str) -> list[bytes]:
    """The message with one field replaced, with one to five fields dropped, and with one repeated."""
    fields = data.split(",")
    texts = [[*fields[:at], bad, *fields[at + 1 :]] for at in range(len(fields)) for bad in SPOILT]
    # A dropped field moves the password to another one's place.
    texts += [fields[:at] + fields[at + count :] for at in range(len(fields)) for count in range(1, 6)]
    texts += [[*fields[:at], fields[at], *fields[at:]] for at in range(len(fields))]
    return [(HEADER.format(number) + "," + ",".join(text)).encode("latin-1") for text in texts]


@pytest.mark.parametrize(("number", "data"), PASSWORDS)
def test_no_error_shows_a_password(number: int, data: str) -> None:
    outcomes = [outcome(payload) for payload in spoilt_lines(number, data)]
    errors = [error for error in outcomes if isinstance(error, MessageError)]
    assert len(errors) > 40
    for error in errors:
        assert SECRET[:4] not in f"{error} {error!r} {error.args} {error.value} {error.expected}"


def test_such_an_error_still_names_field_and_expectation() -> None:
    fields = PASSWORDS[0][1].split(",")
    error = refused(line(106, ",".join(["2", *fields[1:]])))
    assert str(error) == "phase: expected 1 single phase, 3 three phases"


def test_a_password_that_cant_be_written_is_not_shown_either() -> None:
    values = Configure(3, 32, 2, 1, 100, 2, 1000, 1, "admin", f"{SECRET},x", 30, "h", 1883, ())
    with pytest.raises(MessageError) as caught:
        CODEC.encode("ip", "v", 106, 1, PILE, values)
    assert str(caught.value) == "screen_password: expected text without comma or control character"


# ---- rows ----


def rows_of(count: int) -> Rows:
    """The periods of a day in so many hours-long parts."""
    parts = ",".join(f"{hour:02}:00:00,{hour + 24 // count:02}:00:00,{hour},0" for hour in range(0, 24, 24 // count))
    periods = CODEC.decode(line(110, f"T,0,{count},{parts}")).data.periods
    assert isinstance(periods, Rows)
    return periods


def test_rows_are_a_sequence() -> None:
    rows = rows_of(3)
    plain = tuple(rows)
    assert plain == ((0, 28800, 0, 0), (28800, 57600, 8, 0), (57600, 86400, 16, 0))
    assert len(rows) == 3
    assert (rows[0], rows[-1], rows[-3]) == (plain[0], plain[2], plain[0])
    assert (rows[1:], rows[::-1]) == (plain[1:], plain[::-1])
    assert list(reversed(rows)) == list(plain[::-1])
    assert plain[1] in rows
    assert (0, 0, 0, 0) not in rows
    assert (rows.index(plain[2]), rows.count(plain[0])) == (2, 1)
    assert rows[0].price == 0


@pytest.mark.parametrize("index", [3, -4, 2**62, -(2**62), 2**70])
def test_rows_end(index: int) -> None:
    with pytest.raises(IndexError):
        rows_of(3)[index]


def test_rows_equal_a_tuple_of_the_same() -> None:
    rows = rows_of(3)
    assert rows == tuple(rows)
    assert tuple(rows) == rows
    assert rows == rows_of(3)
    assert hash(rows) == hash(tuple(rows))
    assert repr(rows) == repr(tuple(rows))
    assert rows != rows_of(4)
    assert rows != tuple(rows)[:2]
    assert rows != "rows"
    assert SetTariff("T", 0, rows) == SetTariff("T", 0, tuple(rows))


def test_rows_are_only_made_by_reading() -> None:
    with pytest.raises(TypeError):
        Rows()
    assert list(Rows.__new__(Rows)) == []


def test_rows_outlive_their_line_and_message() -> None:
    rows = rows_of(24)
    gc.collect()
    assert rows[23] == (82800, 86400, 23, 0)


# ---- tables that can't be ----


def test_a_shape_is_made_of_tuples_and_specs() -> None:
    with pytest.raises(TypeError):
        Shape(dict, [])
    with pytest.raises(TypeError):
        Shape(tuple, ["name"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="first"):
        Shape(tuple, [FieldSpec("type", FieldKind.INT, "an integer", waived_by=(1,))])
    with pytest.raises(ValueError, match="rows"):
        FieldSpec("rows", FieldKind.ROWS, "rows")


def test_a_codec_reads_by_shapes_only() -> None:
    with pytest.raises(TypeError):
        LineCodec({100: "shape"}, 0).decode(line(100))  # type: ignore[dict-item]


# ---- counts and lengths made to hurt ----

HOSTILE = [
    b"",
    b",",
    b"," * 65536,
    b"\x00" * 65536,
    b"-" * 65536,
    b"1" * 65536,
    b"\xff" * 65536,
    b"ip,v,110,1,P,T,0,16000" + b"," * 60000 + b"1",
    b"ip,v,110,1,P,T,0,1," + b"0" * 60000 + b",86400,1,1",
    b"ip,v,106,1,P,3,32,2,1,9,2,9,1,a,b,30,h,1,20000" + b"," * 60000 + b"1",
    b"ip,v,106,1,P,3,32,2,1,9,2,9,1,a,b,30,h,1,1,60000," + b"," * 59000 + b"1",
    b"ip,v,106,1,P,3,32,2,1,9,2,9,1,a,b,30,h,1,1,30000," + "充".encode() * 20000 + b",1",
    b"ip,v,109,1,P,1,0." + b"9" * 65000 + b",0,1,1,S,R,1",
    b"ip,v,109,1,P,1," + b"9" * 65000 + b",0,1,1,S,R,1",
    b"ip,v,109,1,P,1,0,0,-" + b"9" * 65000 + b",1,S,R,1",
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:24]))
def test_hostile_lines_are_read_or_refused(payload: bytes) -> None:
    read = outcome(payload)
    if isinstance(read, MessageError):
        assert read.result in (Result.MALFORMED, Result.NOT_SUPPORTED, Result.OUT_OF_RANGE)
        assert len(str(read)) < 400, "fit for a reply"


@pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**60, 2**61, 2**62, 2**63 - 1, 16384, 1000])
def test_a_count_reserves_no_more_than_the_line_could_hold(count: int) -> None:
    payload = line(110, f"T,0,{count},00:00:00,24:00:00,1,1")
    tracemalloc.start()
    try:
        assert refused(payload).result == Result.MALFORMED
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_of_what_was_read_or_refused() -> None:
    """Every example, and every way to cut it short, over and over: no memory stays taken."""
    lines = [line(number, command.example) for number, command in COMMANDS.items()]
    lines += [whole[:end] for whole in lines for end in range(0, len(whole), 7)]
    lines += [bad for number, data in PASSWORDS for bad in spoilt_lines(number, data)[::9]]

    def run(times: int) -> int:
        for payload in itertools.chain.from_iterable(itertools.repeat(lines, times)):
            outcome(payload)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = run(3)
        assert run(40) - before < 2000
    finally:
        tracemalloc.stop()
