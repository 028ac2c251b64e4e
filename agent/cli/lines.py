"""``pile-agent decode`` and ``encode``: the platform's lines as JSON objects and back, a line each."""

import json
import sys
from typing import BinaryIO, TextIO

from agent.protocol.codec import Codec
from agent.protocol.jsonform import encode_json, error_to_json, message_to_json, reply_to_json
from agent.protocol.results import Result
from cext.message import MessageError

LINES_FAILED = 1


def decode(source: BinaryIO, sink: TextIO, utc_offset_s: int, replies: bool) -> int:
    """Write one JSON object for every line; returns the exit code, 1 if any line failed."""
    codec = Codec(utc_offset_s)
    code = 0
    for number, line in enumerate(source, 1):
        payload = line.removesuffix(b"\n")
        try:
            form = reply_to_json(codec.decode_reply(payload)) if replies else message_to_json(codec.decode(payload))
        except MessageError as error:
            form = error_to_json(error, number)
            code = LINES_FAILED
        print(json.dumps(form, ensure_ascii=False), file=sink, flush=True)
    return code


def encode(source: BinaryIO, sink: BinaryIO, utc_offset_s: int) -> int:
    """Write the line of every JSON object; what can't be written goes to stderr as decode's error object."""
    codec = Codec(utc_offset_s)
    code = 0
    for number, line in enumerate(source, 1):
        try:
            sink.write(encode_json(codec, _parse_json(line)) + b"\n")
            sink.flush()
        except MessageError as error:
            print(json.dumps(error_to_json(error, number), ensure_ascii=False), file=sys.stderr)
            code = LINES_FAILED
    return code


def _parse_json(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise MessageError(Result.MALFORMED, "message", None, f"a JSON object ({error})") from None
