"""JSON from files that somebody else may have written: what is wrong is told with its place, as the file's fault.

Stricter than :mod:`json`: RFC 8259 knows no ``NaN``, and leaves open what it means that a key occurs twice, that an
integer has a thousand digits, or that lists are nested thousands deep. All of these are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from forerun.support.diagnostics import InvalidInput
from forerun.support.files import read_regular

__all__ = ["JsonObject", "parse_json", "read_json"]

MAX_BYTES = 1 << 26
"""The most that a file may have; a timeline of a large model has a few million."""
MAX_DIGITS = 20
"""The most that an integer may have: 64 bits."""

_REQUIRED: Any = object()
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "an integer"}


def read_json(path: str | Path, *, what: str = "", hint: str = "", follow: bool = True) -> JsonObject:
    """The object that a JSON file holds.

    For messages: ``what`` it should be (``the tuning file``), and a hint for who has another file. ``follow`` as for
    :func:`~forerun.support.files.open_regular`.

    Raises:
        InvalidInput: If it cannot be read, or does not hold a JSON object.
    """
    name = f"{what} {path}".lstrip()
    try:
        data = read_regular(path, most=MAX_BYTES, follow=follow)
    except InvalidInput as error:
        raise InvalidInput(f"{what} {error.message}".lstrip(), hint=hint) from error
    return parse_json(data, name, hint=hint)


def parse_json(data: bytes | str, name: str, *, hint: str = "") -> JsonObject:
    """The object that a JSON text is; name and hint are for messages.

    Raises:
        InvalidInput: If it is not UTF-8, not JSON, or not an object.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 text (byte {error.start:,})", hint=hint) from error
    except RecursionError as error:
        raise InvalidInput(f"{name} is not JSON that can be read: it is nested too deeply", hint=hint) from error
    except ValueError as error:
        raise InvalidInput(f"{name} is not JSON: {error}", hint=hint) from error
    return JsonObject(value, name, hint=hint)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the integer {digits[:MAX_DIGITS]}... has {len(digits):,} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(twice)} occurs twice in one object")
    return found


class JsonObject:
    """Typed access to a JSON object; what is missing or of another type is the file's fault.

    Args:
        data: What should be an object.
        name: Of the file, for messages.
        where: Of the object in the file: ``passes[3].``; empty for the file itself.
        hint: What to do if something is wrong.

    Raises:
        InvalidInput: If it is not an object.
    """

    def __init__(self, data: object, name: str, where: str = "", hint: str = "") -> None:
        self.name = name
        self.where = where
        self.hint = hint
        if not isinstance(data, dict):
            raise self.error(f"it must be an object{_not(data)}", "")
        self.data: Mapping[str, Any] = data

    def __contains__(self, key: str) -> bool:
        """Whether the key is there, and not ``null``."""
        return self.data.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def error(self, message: str, key: str) -> InvalidInput:
        """An error about a key, to be raised."""
        place = f"{self.where}{key}".rstrip(".")
        return InvalidInput(
            f"{self.name}: '{place}': {message}" if place else f"{self.name}: {message}", hint=self.hint
        )

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A string."""
        value: str = self._get(key, str, default)
        return value

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        """A truth value."""
        value: bool = self._get(key, bool, default)
        return value

    def integer(self, key: str, default: int = _REQUIRED, *, least: int = 0, most: int = (1 << 63) - 1) -> int:
        """An integer of a range."""
        value: int = self._get(key, int, default)
        if not least <= value <= most:
            raise self.error(f"it is {value}, and must be from {least} to {most}", key)
        return value

    def number(self, key: str, default: float = _REQUIRED) -> float:
        """A finite number that is not negative."""
        value = self.data.get(key)
        if value is None and default is not _REQUIRED:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"it must be a number{_not(value)}", key)
        if value < 0:
            raise self.error(f"it is {value}, and must not be negative", key)
        return float(value)

    def list_of(self, key: str, kind: type, *, optional: bool = False) -> list[Any]:
        """A list whose elements are all of a kind: ``str``, ``int``, ``dict`` or ``list``."""
        values: list[Any] = self._get(key, list, [] if optional else _REQUIRED)
        for number, value in enumerate(values):
            if type(value) is not kind:
                raise self.error(f"it must be {_KINDS[kind]}{_not(value)}", f"{key}[{number}]")
        return values

    def inside(self, key: str, *, optional: bool = False) -> JsonObject:
        """An object; an empty one if it is optional and not there."""
        value = self._get(key, dict, {} if optional else _REQUIRED)
        return JsonObject(value, self.name, f"{self.where}{key}.", self.hint)

    def each(self, key: str, *, optional: bool = False) -> list[JsonObject]:
        """A list of objects."""
        items = self._get(key, list, [] if optional else _REQUIRED)
        return [
            JsonObject(item, self.name, f"{self.where}{key}[{number}].", self.hint) for number, item in enumerate(items)
        ]

    def counts(self, key: str) -> dict[str, int]:
        """An object of integers that are not negative; empty if it is not there."""
        inside = self.inside(key, optional=True)
        return {name: inside.integer(name) for name in inside}

    def require(self, key: str, expected: str | int, what: str) -> None:
        """Refuse the file if the value of a key is another one: a format, or its version."""
        found = self.data.get(key)
        if type(found) is not type(expected) or found != expected:
            said = "nothing" if found is None else repr(found)[:60]
            raise InvalidInput(
                f"{self.name} is not {what}: its '{key}' is {said}, and this forerun reads {expected!r}", hint=self.hint
            )

    def _get(self, key: str, kind: type, default: Any) -> Any:
        value = self.data.get(key)
        if value is None and default is not _REQUIRED:
            return default
        if type(value) is not kind:
            raise self.error(f"it must be {_KINDS[kind]}{_not(value)}", key)
        return value


def _not(value: object) -> str:
    """What was found instead."""
    if value is None:
        return ", and is missing"
    return f", not {_KINDS.get(type(value), 'a number')}"
