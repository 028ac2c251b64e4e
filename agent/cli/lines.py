"""``pile-agent decode`` and ``encode``: the platform's lines as JSON objects and back, a line each."""

import json
import re
import sys
from typing import BinaryIO, TextIO

from agent.protocol.codec import Codec
from agent.protocol.jsonform import encode_json, error_to_json, message_to_json, reply_to_json
from agent.protocol.offset import PATTERN, utc_offset_s
from agent.protocol.results import Result
from cext.message import MessageError

LINES_FAILED = 1


def offset_of(text: str) -> int:
    """``+08:00`` in seconds east of UTC. Raises ``SystemExit`` with a message for anything else."""
    if re.fullmatch(PATTERN, text) is None:
        raise SystemExit(f"--utc-offset = {text}: expected +HH:MM or -HH:MM")
    return utc_offset_s(text)


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
            sink.write(_encode_line(codec, line) + b"\n")
            sink.flush()
        except MessageError as error:
            print(json.dumps(error_to_json(error, number), ensure_ascii=False), file=sys.stderr)
            code = LINES_FAILED
    return code


def _encode_line(codec: Codec, line: bytes) -> bytes:
    try:
        return encode_json(codec, json.loads(line))
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:  # what json makes of text that is no JSON, or nested without end
        raise MessageError(Result.MALFORMED, "message", None, f"a JSON object ({error})") from None
