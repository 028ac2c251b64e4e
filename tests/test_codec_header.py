"""The envelope: ip , version , command , timestamp , pile , data…"""

import pytest
from codec_helpers import CODEC, line, read, refused

from agent.protocol.codec import Codec
from agent.protocol.results import Result
from cext.message import LINE_BYTES_MAX, MessageError, pile_of

FIVE = b"192.168.1.1,API:2.0.2,100,1795305600000,0000012345"


def test_the_five_fields() -> None:
    message = CODEC.decode(FIVE)
    assert message.ip == "192.168.1.1"
    assert message.version == "API:2.0.2"
    assert message.command == 100
    assert message.timestamp == 1795305600000
    assert message.timestamp_text == "1795305600000"
    assert message.pile == "0000012345"
    assert message.data == ()


@pytest.mark.parametrize("ip", ["", "10.0.0.7", "not an address", "[fe80::1]", "快乐充"])
def test_ip_is_any_text_kept_verbatim(ip: str) -> None:
    assert CODEC.decode(f"{ip},API:2.0.2,100,1,P".encode()).ip == ip


@pytest.mark.parametrize("version", ["API:2.0.2", "2.0.2", "", "API:"])
def test_version_with_or_without_api(version: str) -> None:
    assert CODEC.decode(f"ip,{version},100,1,P".encode()).version == version


@pytest.mark.parametrize("text", ["1795305600000", "1795305600", "0", "-1", "007", "-0", "9223372036854775807"])
def test_timestamp_is_kept_verbatim_beside_its_number(text: str) -> None:
    message = CODEC.decode(f"ip,v,100,{text},P".encode())
    assert (message.timestamp_text, message.timestamp) == (text, int(text))


@pytest.mark.parametrize("pile", ["0000012345", "P", "x" * 32, "桩" * 32, "桩号 7"])
def test_pile_is_opaque_and_keeps_its_zeros(pile: str) -> None:
    assert CODEC.decode(f"ip,v,100,1,{pile}".encode()).pile == pile


@pytest.mark.parametrize("pile", ["x" * 33, "桩" * 33])
def test_pile_has_at_most_32_characters(pile: str) -> None:
    error = refused(f"ip,v,100,1,{pile}".encode())
    assert (error.result, error.field) == (Result.MALFORMED, "pile")
    assert error.expected == "1..32 characters without control character"


def test_an_empty_pile_in_the_middle_is_malformed() -> None:
    assert refused(b"ip,v,103,1,,1").field == "pile"


@pytest.mark.parametrize(
    ("payload", "missing"),
    [
        (b"", "version"),
        (b"ip", "version"),
        (b"ip,v", "command"),
        (b"ip,v,100", "timestamp"),
        (b"ip,v,100,1", "pile"),
    ],
)
def test_a_short_line_names_the_first_field_it_lacks(payload: bytes, missing: str) -> None:
    error = refused(payload)
    assert (error.result, error.field, error.value) == (Result.MALFORMED, missing, None)
    assert error.expected.endswith("but the message ends before it")


@pytest.mark.parametrize(
    "payload", [b"ip,v,100,1,P,", b"ip,v,100,1,", b"ip,v,103,1,P,1,", b"ip,v,103,1,P,1,,,", b",,,,,"]
)
def test_the_last_character_is_never_a_comma(payload: bytes) -> None:
    error = refused(payload)
    assert (error.result, error.field) == (Result.MALFORMED, "message")
    assert str(error) == "message: expected a last character other than ','"


@pytest.mark.parametrize("command", ["99", "115", "0", "-5", "99999999999", "9223372036854775807"])
def test_another_command_is_not_supported_and_named_for_the_reply(command: str) -> None:
    error = refused(f"ip,v,{command},1795305600,P,whatever,,1".encode())
    assert (error.result, error.field, error.value) == (Result.NOT_SUPPORTED, "command", f"'{command}'")
    assert error.expected == "an integer 100..114"
    assert error.command == int(command)
    assert error.timestamp_text == "1795305600"


@pytest.mark.parametrize(
    "command", ["", "x", "101.0", " 101", "101 ", "+101", "1e2", "0x65", "１０１", "9223372036854775808"]
)
def test_a_command_that_is_no_integer_is_malformed(command: str) -> None:
    error = refused(f"ip,v,{command},1,P".encode())
    assert (error.result, error.field, error.command) == (Result.MALFORMED, "command", None)


@pytest.mark.parametrize(
    "text", ["", "1.5", " 1", "1 ", "now", "9223372036854775808", "-9223372036854775809", "-", "--1"]
)
def test_a_timestamp_that_is_no_integer_is_malformed_and_echoed_as_0(text: str) -> None:
    error = refused(f"ip,v,100,{text},P".encode())
    assert (error.result, error.field, error.timestamp_text) == (Result.MALFORMED, "timestamp", "0")
    assert error.command == 100


def test_an_error_in_the_data_knows_the_header() -> None:
    error = refused(b"ip,v,103,0042,P,x")
    assert (error.command, error.timestamp_text) == (103, "0042")


@pytest.mark.parametrize("command", [100, 105, 111, 112])
def test_commands_without_data_end_with_the_pile_number(command: int) -> None:
    assert read(command) == ()
    error = refused(line(command, "1"))
    assert (error.result, error.field) == (Result.MALFORMED, "end")
    assert str(error) == "end = '1': expected nothing after the pile number"


# ---- bytes that are no text ----


@pytest.mark.parametrize("field", ["ip", "version", "pile"])
@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"\xc3", b"\xc3(", b"\xe6\xa1", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", "快".encode("gbk")],
    ids=["ff", "cut-2", "no-continuation", "cut-3", "overlong-nul", "surrogate", "beyond-unicode", "gbk"],
)
def test_undecodable_bytes_are_malformed(field: str, bad: bytes) -> None:
    fields = {"ip": b"ip", "version": b"v", "pile": b"P"} | {field: b"a" + bad}
    error = refused(b"%(ip)s,%(version)s,100,1,%(pile)s" % {key.encode(): value for key, value in fields.items()})
    assert (error.result, error.field) == (Result.MALFORMED, field)


CONTROLS = [*range(0x20), 0x7F, *range(0x80, 0xA0)]


@pytest.mark.parametrize("code", CONTROLS, ids=lambda code: f"U+{code:04X}")
def test_a_control_character_is_malformed_anywhere(code: int) -> None:
    bad = chr(code)
    for field, payload in {
        "ip": f"i{bad}p,v,103,1,P,1",
        "version": f"ip,{bad},103,1,P,1",
        "command": f"ip,v,103{bad},1,P,1",
        "timestamp": f"ip,v,103,1{bad},P,1",
        "pile": f"ip,v,103,1,P{bad},1",
        "gun": f"ip,v,103,1,P,1{bad}",
        "account": f"ip,v,102,1,P,1,a{bad}b,1,1,2",
        "qr_codes[0].data": f"ip,v,106,1,P,3,32,2,1,9,2,9,1,a,b,30,h,1,1,{len(('x' + bad).encode())},x{bad},1",
    }.items():
        error = refused(payload.encode())
        assert (error.result, error.field) == (Result.MALFORMED, field)
        assert bad not in str(error), "an error is fit for a log line"


@pytest.mark.parametrize("character", ["\x20", "\x7e", "\xa0", "À", "\u2028", "⚡"])
def test_neighbours_of_the_control_characters_are_text(character: str) -> None:
    assert CODEC.decode(f"a{character}b,v,100,1,P".encode()).ip == f"a{character}b"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\x00"])
def test_a_line_carries_no_line_ending(ending: bytes) -> None:
    assert refused(FIVE + ending).field == "pile"


# ---- size ----


def of_size(size: int) -> bytes:
    return b"x" * (size - len(FIVE)) + FIVE


def test_64_kib_are_read() -> None:
    assert LINE_BYTES_MAX == 65536
    assert len(CODEC.decode(of_size(65536)).ip) == 65536 - len(FIVE) + len("192.168.1.1")


def test_one_byte_more_is_malformed() -> None:
    error = refused(of_size(65537))
    assert (error.result, error.field) == (Result.MALFORMED, "message")
    assert str(error) == "message = 65537 bytes: expected at most 65536 bytes"
    assert (error.command, error.timestamp_text) == (100, "1795305600000")


# ---- the header peek ----


@pytest.mark.parametrize(
    ("payload", "pile"),
    [
        (FIVE, b"0000012345"),
        (FIVE + b",1,2", b"0000012345"),
        (b",,,,P,\xff\x00", b"P"),
        (b",,,,", b""),
        (b",,,", None),
        (b"", None),
        (b"\x00,\x00,\x00,\x00,\xff", b"\xff"),
    ],
)
def test_pile_of_reads_the_fifth_field_only(payload: bytes, pile: bytes | None) -> None:
    assert pile_of(payload) == pile


def test_pile_of_does_not_care_what_follows() -> None:
    """Neither size nor content of the data matters: a foreign message is dropped by its first five fields."""
    assert pile_of(FIVE + b"," + b"\xff" * 10_000_000) == b"0000012345"


@pytest.mark.parametrize("argument", [None, "text", bytearray(b"a")])
def test_only_bytes_are_read(argument: object) -> None:
    with pytest.raises(TypeError):
        pile_of(argument)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        CODEC.decode(argument)  # type: ignore[arg-type]


def test_an_error_says_field_value_and_what_was_expected() -> None:
    error = refused(line(107, "abc,90"))
    assert isinstance(error, MessageError)
    assert (error.field, error.value, error.expected) == ("period_s", "'abc'", "an integer from 1")
    assert str(error) == "period_s = 'abc': expected an integer from 1"


def test_an_error_shows_a_long_value_cut_between_characters() -> None:
    error = refused(line(107, "桩" * 100 + ",90"))
    assert error.value == repr("桩" * 60) + "…"


def test_codecs_differ_only_in_their_offset() -> None:
    periods = "T,0,2,1795305600,43200,1,1,43200,24:00:00,1,1"  # the first begins at midnight UTC
    assert Codec(0).decode(line(110, periods)).data.periods[0].start_s == 0
    assert refused(line(110, periods), Codec(3600)).result == Result.OUT_OF_RANGE
