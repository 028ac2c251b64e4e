"""What holds for any message and any bytes, not only for the examples."""

from typing import Any

import pytest
from codec_helpers import CODEC, line, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.codec import outcome_text, plain_text
from agent.protocol.commands import (
    COMMANDS,
    Period,
    Reserve,
    SetHeartbeat,
    SetTariff,
    StartStop,
    Versions,
)
from agent.protocol.fields import (
    INT64_MAX,
    INT64_MIN,
    Choice,
    DayEnd,
    DayStart,
    Double,
    Gun,
    InnerPile,
    Int,
    Kind,
    Repeat,
    SizedText,
    Text,
    TextChoice,
    fields_of,
)
from agent.protocol.jsonform import encode_json, message_to_json
from agent.protocol.results import Result
from cext.message import LINE_BYTES_MAX, MessageError, pile_of

QUICK = settings(max_examples=60)

clean = st.characters(exclude_categories=("Cc", "Cs"))
texts = st.text(clean.filter(lambda character: character != ","), max_size=20)
piles = st.text(clean.filter(lambda character: character != ","), min_size=1, max_size=32)
integers = st.integers(INT64_MIN, INT64_MAX)


def values_of(kind: Kind, pile: str) -> st.SearchStrategy[Any]:
    """Everything a field of that kind may hold."""
    match kind:
        case Text():
            return texts
        case Choice(meanings=meanings) | TextChoice(meanings=meanings):
            return st.sampled_from(sorted(meanings))
        case Int(low=low, high=high, optional=optional):
            return st.integers(low, high) | st.none() if optional else st.integers(low, high)
        case Double(low=low, high=high):
            return st.floats(low, high, allow_nan=False)
        case Gun(whole_pile=whole_pile):
            return st.integers(0 if whole_pile else 1, INT64_MAX)
        case InnerPile():
            return st.just(pile)
        case SizedText():
            return st.text(clean, min_size=1, max_size=20)
        case Repeat(row=row):
            return st.lists(instances(row, pile), max_size=5).map(tuple)
        case DayStart() | DayEnd():
            raise AssertionError("times of day only stand in tariffs, which must cover the day")


def instances(cls: Any, pile: str) -> st.SearchStrategy[Any]:
    """Everything a message class may hold, its cross-field rule kept."""
    if cls is SetTariff:
        return st.builds(SetTariff, texts, values_of(Gun(whole_pile=True), pile), days())
    kinds = list(fields_of(cls).values())
    built = st.tuples(*(values_of(kind, pile) for kind in kinds)).map(cls._make)
    if cls is SetHeartbeat:
        return built.map(lambda data: SetHeartbeat(*sorted(data)))
    if cls is Reserve:
        return built.filter(lambda data: data.fault() is None)
    if cls is Versions:
        return built.filter(lambda data: bool(data.devices[-1].version if data.devices else data.agent))
    if kinds and isinstance(kinds[-1], Text):  # a line does not end in an empty text
        return built.map(lambda data: cls(*data[:-1], data[-1] or "x"))
    return built


@st.composite
def days(draw: st.DrawFn) -> tuple[Period, ...]:
    """Periods that cover the day once, beginning at any edge and standing in any order."""
    seconds = st.integers(0, 86399).filter(lambda second: second % 60 != 59)
    edges = sorted(draw(st.sets(seconds, min_size=1, max_size=12)))
    if len(edges) == 1:
        edges = [0]
    rows = [
        Period(start, following or 86400, draw(st.integers(0, INT64_MAX)), draw(st.integers(0, INT64_MAX)))
        for start, following in zip(edges, edges[1:] + edges[:1], strict=True)
    ]
    return tuple(draw(st.permutations(rows)))


# ---- round trips ----


@pytest.mark.parametrize("number", COMMANDS)
@QUICK
@given(chosen=st.data())
def test_what_is_written_is_read_back(number: int, chosen: st.DataObject) -> None:
    pile = chosen.draw(piles)
    ip, version, timestamp = chosen.draw(texts), chosen.draw(texts), chosen.draw(integers)
    data = chosen.draw(instances(COMMANDS[number].data, pile))
    payload = CODEC.encode(ip, version, number, timestamp, pile, data)
    message = CODEC.decode(payload)
    assert (message.ip, message.version, message.command) == (ip, version, number)
    assert (message.timestamp, message.pile, message.data) == (timestamp, pile, data)
    assert pile_of(payload) == pile.encode()
    assert encode_json(CODEC, message_to_json(message)) == payload


@pytest.mark.parametrize(
    ("number", "cls"),
    [(number, cls) for number, command in COMMANDS.items() for cls in command.replies],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
@QUICK
@given(chosen=st.data())
def test_what_is_replied_is_read_back(number: int, cls: type, chosen: st.DataObject) -> None:
    pile, stamp = chosen.draw(piles), str(chosen.draw(integers))
    body = chosen.draw(instances(cls, pile))
    first = chosen.draw(st.sampled_from([Result.OK, Result.ACCEPTED, Result.DEFERRED]))
    written = outcome_text(number, first, body, pile)
    for result, text in ((first, written), (Result.DUPLICATE, f"3,{written}")):
        reply = CODEC.decode_reply(CODEC.encode_reply("ip", "v", number, 1, pile, stamp, text))
        assert (reply.request_timestamp, reply.result, reply.body) == (stamp, result, body)


@QUICK
@given(st.text(), st.sampled_from([result for result in Result if result.is_error]))
def test_any_words_fit_an_error_reply(words: str, result: Result) -> None:
    written = outcome_text(101, result, words, "P")
    reply = CODEC.decode_reply(CODEC.encode_reply("ip", "v", 101, 1, "P", "0", written))
    assert (reply.result, reply.body) == (result, plain_text(words))


@given(money=st.tuples(integers, integers, integers), kind=st.sampled_from([2, 4]))
def test_a_stop_takes_any_money(money: tuple[int, int, int], kind: int) -> None:
    data = StartStop(kind, "P", 1, "U", *money, "O")
    assert CODEC.decode(CODEC.encode("ip", "v", 101, 1, "P", data)).data == data


# ---- tariffs against a plain model ----

seconds_of_day = st.integers(0, 24).map(lambda hour: hour * 3600)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(seconds_of_day.filter(lambda second: second < 86400), seconds_of_day), min_size=1, max_size=4)
)
def test_a_day_is_covered_exactly_when_every_hour_is_covered_once(pairs: list[tuple[int, int]]) -> None:
    covered = [0] * 24
    for start, end in pairs:
        hours = range(start // 3600, (end or 86400) // 3600)
        for hour in hours if start < (end or 86400) else [*range(start // 3600, 24), *range(end // 3600)]:
            covered[hour] += 1
    whole = covered == [1] * 24 and all(start != (end or 86400) for start, end in pairs)
    read = outcome(line(110, f"T,0,{len(pairs)}," + ",".join(f"{start},{end},1,1" for start, end in pairs)))
    if whole:
        assert len(read.data.periods) == len(pairs)
    else:
        assert (read.result, read.field) == (Result.OUT_OF_RANGE, "periods")


# ---- integers against Python's ----


@given(st.integers(-(2**65), 2**65))
def test_an_integer_is_read_exactly_when_it_fits_64_bits(number: int) -> None:
    payload = line(109, f"1,0,0,{number},1,S,R,1")
    if INT64_MIN <= number <= INT64_MAX:
        assert CODEC.decode(payload).data.bay == number
    else:
        with pytest.raises(MessageError):
            CODEC.decode(payload)


# ---- bytes of any kind ----


def read_or_refuse(payload: bytes) -> None:
    """Both directions' readers take any bytes: a message, or an error that is fit to be sent and logged."""
    for reader in (CODEC.decode, CODEC.decode_reply):
        error = outcome(payload, reader)
        if isinstance(error, MessageError):
            assert Result(error.result).is_error
            assert error.field
            assert str(error).isprintable()
            reply = outcome_text(0, Result(error.result), str(error), "P")
            CODEC.encode_reply("ip", "v", 0, 1, "P", error.timestamp_text, reply)
    pile_of(payload)


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    read_or_refuse(payload)


@settings(max_examples=500)
@given(
    st.sampled_from(range(100, 115)), st.lists(st.binary(max_size=12) | integers.map(lambda n: b"%d" % n), max_size=30)
)
def test_any_data_behind_a_good_header(number: int, fields: list[bytes]) -> None:
    read_or_refuse(line(number) + b"".join(b"," + field for field in fields))
    read_or_refuse(line(number) + b",0,0" + b"".join(b"," + field for field in fields))


@settings(max_examples=1000)
@given(st.sampled_from(list(COMMANDS.values())), st.booleans(), st.data())
def test_mutated_examples(command: Any, is_reply: bool, chosen: st.DataObject) -> None:
    """Bytes replaced, removed, inserted, doubled and moved in a message that was good."""
    payload = line(command.number, command.example)
    if is_reply:
        payload = line(command.number) + f",1,0,{command.reply_example}".encode()
    for _ in range(chosen.draw(st.integers(1, 4))):
        at = chosen.draw(st.integers(0, len(payload)))
        end = chosen.draw(st.integers(at, min(len(payload), at + 20)))
        piece = chosen.draw(
            st.sampled_from([b"", b",", b"-", b"0", b"9" * 20, b"\x00", b"\xff", b"\xc2", b"\x85", payload[at:end] * 2])
            | st.binary(max_size=4)
        )
        payload = payload[:at] + piece + payload[end:]
    assert len(payload) < LINE_BYTES_MAX
    read_or_refuse(payload)
