"""``pile-agent send``: a command published as the platform would, its replies awaited."""

import json
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from agent.cli.exits import FAILED, OK, USAGE
from agent.cli.platform_client import READY_S, PlatformClient, PlatformError
from agent.config import Config, load_config
from agent.protocol.codec import Codec, Reply
from agent.protocol.commands import COMMANDS, RecordsSummary
from agent.protocol.fields import InnerPile, Repeat, Text, TextChoice, fields_of
from agent.protocol.jsonform import encode_json, reply_to_json
from agent.protocol.results import Result
from cext.message import MessageError


def send(path: Path, number: int, fields: list[str], timestamp: int | None, timeout_s: float) -> int:
    """Exit code 0 when the final reply is a good one."""
    config = load_config(path)
    codec = Codec(config.utc_offset_s)
    timestamp = timestamp if timestamp is not None else time.time_ns() // 1_000_000
    try:
        line = _line(codec, config, number, fields, timestamp)
    except MessageError as error:
        print(error, file=sys.stderr)
        return USAGE
    return _exchange(codec, config, line, str(timestamp), timeout_s)


def _line(codec: Codec, config: Config, number: int, fields: list[str], timestamp: int) -> bytes:
    data = dict(_field(number, text) for text in fields)
    if number in COMMANDS:
        inner = [name for name, kind in fields_of(COMMANDS[number].data).items() if isinstance(kind, InnerPile)]
        data = dict.fromkeys(inner, config.pile.pile) | data
    form = {"ip": config.ip, "version": config.api_version, "command": number, "timestamp": timestamp,
            "pile": config.pile.pile, "data": data}  # fmt: skip
    return encode_json(codec, form)


def _field(number: int, text: str) -> tuple[str, Any]:
    """``name=value``: a text field's value as it stands, any other as JSON."""
    name, equals, value = text.partition("=")
    if not equals:
        raise MessageError(10, text, None, "FIELD=VALUE")
    kinds = fields_of(COMMANDS[number].data) if number in COMMANDS else {}
    if kinds and name not in kinds:
        raise MessageError(Result.MALFORMED, name, None, f"one of {', '.join(kinds)}")
    kind = kinds.get(name)
    if isinstance(kind, Text | TextChoice | InnerPile):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        wanted = "a JSON list of rows" if isinstance(kind, Repeat) else "a number"
        raise MessageError(10, name, repr(value), wanted) from None


def _exchange(codec: Codec, config: Config, line: bytes, timestamp: str, timeout_s: float) -> int:
    """Publish, and print replies up to the final one."""
    replies: SimpleQueue[Reply] = SimpleQueue()
    deadline = time.monotonic() + timeout_s

    def heard(payload: bytes) -> None:
        try:
            reply = codec.decode_reply(payload)
        except MessageError as error:
            print(f"a reply that can't be read: {error}", file=sys.stderr)
            return
        if reply.request_timestamp == timestamp:
            replies.put(reply)

    try:
        with PlatformClient(config.link, heard, timeout_s=min(timeout_s, READY_S)) as platform:
            platform.publish(line)
            return _print_replies(replies, deadline)
    except PlatformError as error:
        print(error, file=sys.stderr)
    except Empty:
        print(f"no final reply within {timeout_s:g} s", file=sys.stderr)
    return FAILED


def _print_replies(replies: "SimpleQueue[Reply]", deadline: float) -> int:
    """Up to the final one; with 104 that is the last record. Raises ``Empty`` when it does not come."""
    to_come = 1
    while True:
        reply = replies.get(timeout=max(deadline - time.monotonic(), 0))
        print(json.dumps(reply_to_json(reply), ensure_ascii=False), flush=True)
        if not reply.result.is_final:
            to_come = reply.body.total if isinstance(reply.body, RecordsSummary) else to_come
            continue
        to_come -= 1
        if reply.result.is_error or not to_come:
            return FAILED if reply.result.is_error else OK
