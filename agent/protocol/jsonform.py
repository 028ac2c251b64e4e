"""Messages as JSON objects and back: the form in which an integrator reads and writes them (``decode``, ``encode``)."""

from typing import Any

from agent.protocol.codec import Codec, Reply
from agent.protocol.commands import COMMANDS
from agent.protocol.fields import Repeat, fields_of
from agent.protocol.results import Result
from cext.message import HEADER, Message, MessageError

JsonObject = dict[str, Any]


def message_to_json(message: Message) -> JsonObject:
    """``{"ip", "version", "command", "timestamp", "pile", "data": {…}}``."""
    return {name: getattr(message, name) for name in HEADER} | {"data": values_of(message.data)}


def reply_to_json(reply: Reply) -> JsonObject:
    """The envelope, ``request_timestamp``, ``result`` by number and name, and the body or the error's text."""
    form: JsonObject = {name: getattr(reply, name) for name in HEADER}
    form |= {"request_timestamp": reply.request_timestamp, "result": reply.result.value, "meaning": reply.result.name}
    if reply.first is not None:
        form |= {"first_result": reply.first.value, "first_meaning": reply.first.name}
    return form | ({"message": reply.body} if isinstance(reply.body, str) else {"data": values_of(reply.body)})


def error_to_json(error: MessageError, line_number: int) -> JsonObject:
    """``{"error": {"result", "field", "message"}, "line"}``; lines count from 1."""
    return {"error": {"result": error.result, "field": error.field, "message": str(error)}, "line": line_number}


def encode_json(codec: Codec, form: object) -> bytes:
    """The line of a JSON object as ``message_to_json`` writes it. Raises ``MessageError`` naming what does not fit."""
    message = _keys(form, (*HEADER, "data"), "message", "")
    number = _integer(message, "command")
    if number not in COMMANDS:
        raise MessageError(Result.NOT_SUPPORTED, "command", str(number), "an integer 100..114")
    data = _instance(COMMANDS[number].data, message["data"], "data", "")
    timestamp = _integer(message, "timestamp")
    return codec.encode(message["ip"], message["version"], number, timestamp, message["pile"], data)


def values_of(data: Any) -> JsonObject:
    """A message class's or row's fields by name, rows as lists of such objects."""
    return {name: _value(value) for name, value in zip(data._fields, data, strict=True) if value is not None}


def _value(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else [values_of(row) for row in value]


def _keys(form: object, names: tuple[str, ...], where: str, prefix: str) -> JsonObject:
    """``form`` if it is an object with exactly those keys. ``where`` names it, ``prefix`` begins its fields' names."""
    keys = ", ".join(names) or "no keys"
    if not isinstance(form, dict):
        raise MessageError(Result.MALFORMED, where, None, f"an object with {keys}")
    for name in names:
        if name not in form:
            raise MessageError(Result.MALFORMED, prefix + name, None, f"a value, but {where} lacks it")
    for name in form:
        if name not in names:
            raise MessageError(Result.MALFORMED, prefix + name, None, f"{where} to have only {keys}")
    return form


def _integer(message: JsonObject, name: str) -> int:
    value = message[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessageError(Result.MALFORMED, name, repr(value)[:60], "an integer")
    return value


def _instance(cls: Any, form: object, where: str, prefix: str) -> Any:
    """An instance of a message class or row from its JSON object, rows included."""
    kinds = fields_of(cls)
    values = _keys(form, tuple(kinds), where, prefix)
    return cls(**{name: _field(kind, values[name], prefix + name) for name, kind in kinds.items()})


def _field(kind: object, value: object, name: str) -> object:
    if not isinstance(kind, Repeat):
        return value
    if not isinstance(value, list):
        raise MessageError(Result.MALFORMED, name, None, "a list of rows")
    rows = ((f"{name}[{number}]", row) for number, row in enumerate(value))
    return tuple(_instance(kind.row, row, place, f"{place}.") for place, row in rows)
