"""Frozen dataclasses as JSON values and back, by their annotations: how the core's state is kept."""

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

JsonValue = Any


def to_json(value: Any) -> JsonValue:
    """A dataclass as an object, a tuple as a list, an enum as its value; ``None``, numbers and texts as they are."""
    if isinstance(value, tuple):
        return [to_json(one) for one in value]
    names = _field_names(value.__class__)
    if names is not None:
        return {name: to_json(getattr(value, name)) for name in names}
    return value.value if isinstance(value, Enum) else value


def from_json(kind: Any, value: JsonValue) -> Any:
    """The value of type ``kind`` that ``to_json`` wrote. Keys that ``kind`` does not know, a newer release's, are left
    out; keys that are missing, an older one's, get their defaults."""
    if value is None:
        return None
    if get_origin(kind) in (types.UnionType, Union):
        return from_json(next(one for one in get_args(kind) if one is not types.NoneType), value)
    if get_origin(kind) is tuple:
        return tuple(_items(get_args(kind), value))
    if is_dataclass(kind):
        return _instance(kind, value)
    return kind(value)


def _instance(kind: Any, values: dict[str, JsonValue]) -> Any:
    hints = _hints(kind)
    return kind(**{name: from_json(hints[name], part) for name, part in values.items() if name in hints})


def _items(kinds: tuple[Any, ...], values: list[JsonValue]) -> Iterator[Any]:
    """``tuple[X, ...]`` or ``tuple[X, Y]``."""
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return (from_json(kinds[0], value) for value in values)
    return (from_json(kind, value) for kind, value in zip(kinds, values, strict=True))


@cache
def _field_names(kind: Any) -> tuple[str, ...] | None:
    """Of a dataclass; ``None`` for another type."""
    return tuple(one.name for one in fields(kind)) if is_dataclass(kind) else None


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
