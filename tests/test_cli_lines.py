"""``pile-agent decode`` and ``encode`` as functions over streams."""

import io
import json
from typing import Any

import pytest
from codec_helpers import line

from agent.cli.lines import decode, encode
from agent.protocol.codec import CHINA_OFFSET_S
from agent.protocol.commands import COMMANDS

GOOD = line(103, "1")
FORM = (
    '{"ip":"192.168.1.1","version":"API:2.0.2","command":103,"timestamp":1795305600000,'
    '"pile":"0000012345","data":{"gun":1}}'
)


def decoded(source: bytes, replies: bool = False, utc_offset_s: int = CHINA_OFFSET_S) -> tuple[int, list[Any]]:
    sink = io.StringIO()
    code = decode(io.BytesIO(source), sink, utc_offset_s, replies)
    return code, [json.loads(text) for text in sink.getvalue().split("\n")[:-1]]


def encoded(source: str | bytes) -> tuple[int, bytes]:
    sink = io.BytesIO()
    code = encode(io.BytesIO(source if isinstance(source, bytes) else source.encode()), sink, CHINA_OFFSET_S)
    return code, sink.getvalue()


def test_decode_writes_an_object_a_line() -> None:
    assert decoded(GOOD + b"\n" + GOOD) == (0, [json.loads(FORM), json.loads(FORM)])


def test_decode_nothing() -> None:
    assert decoded(b"") == (0, [])


def test_decode_goes_on_after_a_bad_line_and_exits_1() -> None:
    code, forms = decoded(line(103, "0") + b"\n" + GOOD + b"\n\n\xff\n" + GOOD + b"\r\n")
    assert code == 1
    assert [form.get("line") for form in forms] == [1, None, 3, 4, 5]
    assert forms[0] == {
        "error": {"result": 12, "field": "gun", "message": "gun = '0': expected a gun's number from 1"},
        "line": 1,
    }
    assert [form["error"]["field"] for form in forms[2:]] == ["version", "version", "gun"]


def test_decode_is_one_json_line_each_whatever_the_text() -> None:
    code, forms = decoded('快"乐\u2028充\\,v,100,1,P\n'.encode())
    assert (code, forms[0]["ip"]) == (0, '快"乐\u2028充\\')


def test_decode_replies() -> None:
    code, forms = decoded(b"ip,v,107,5,P,7,0,30,90\nip,v,107,5,P,7,13,too short\nip,v,107,5,P,7,0,30\n", replies=True)
    assert code == 1
    assert forms[0]["data"] == {"period_s": 30, "timeout_s": 90}
    assert (forms[1]["meaning"], forms[1]["message"]) == ("OUT_OF_RANGE", "too short")
    assert forms[2]["error"]["field"] == "timeout_s"


def test_decode_takes_the_offset() -> None:
    payload = line(110, "T,0,2,1795305600,43200,1,1,43200,0,1,1")
    assert decoded(payload, utc_offset_s=0)[1][0]["data"]["periods"][0]["start_s"] == 0
    assert decoded(payload, utc_offset_s=3600)[1][0]["error"]["field"] == "periods"


def test_encode_writes_a_line_an_object() -> None:
    assert encoded(f"{FORM}\n{FORM}\n") == (0, GOOD + b"\n" + GOOD + b"\n")


def test_encode_reverses_decode() -> None:
    lines = b"".join(line(number, command.example) + b"\n" for number, command in COMMANDS.items())
    sink = io.StringIO()
    assert decode(io.BytesIO(lines), sink, CHINA_OFFSET_S, replies=False) == 0
    assert encoded(sink.getvalue()) == (0, lines)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (FORM.replace('"gun":1', '"gun":0').encode(), "gun"),
        (FORM.replace('"gun":1', '"gun":1e400').encode(), "gun"),
        (FORM.replace("1795305600000", "9" * 5000).encode(), "message"),
        (b"{", "message"),
        (b"", "message"),
        (b"nonsense", "message"),
        (b"\xff\xfe", "message"),
        (b"[" * 100_000, "message"),
        (b'{"ip":' * 100_000, "message"),
        (b'{"\\ud800": 1}', "ip"),
    ],
)
def test_encode_goes_on_after_a_bad_object_and_exits_1(
    text: bytes, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encoded(text + b"\n" + FORM.encode()) == (1, GOOD + b"\n")
    error = json.loads(capsys.readouterr().err)
    assert (error["error"]["field"], error["line"]) == (field, 1)


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_encode_survives_any_depth(depth: int, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON that is just shallow enough to be read may be too deep to be shown."""
    nested = "[" * depth + "]" * depth
    assert encoded(FORM.replace('"192.168.1.1"', nested))[0] == 1
    assert json.loads(capsys.readouterr().err)["error"]["result"] == 10
