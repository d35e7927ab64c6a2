"""Typed options: a frozen dataclass declares them as fields; text, help and checks derive from the declaration."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union

from forerun.support.diagnostics import InternalError, InvalidInput, closest, did_you_mean
from forerun.support.option_text import ItemText, OptionText, Span, format_value

__all__ = ["OptionSpec", "build", "check_values", "describe", "non_default_texts", "option", "specs", "value_for_json"]

_MISSING = dataclasses.MISSING
_Declared = TypeVar("_Declared")
_Finding = tuple[str, str, Span, str]


def option(default: Any = _MISSING, *, help: str, file: bool = False) -> Any:
    """Declare an option: a dataclass field with a line of help. Without a default the option must be given.

    Its annotation is ``bool``, ``int``, ``float``, ``str``, a ``Literal``, an ``Enum``, or one of these ``| None``.

    Args:
        default: The value if it is not given.
        help: What it does.
        file: Whether its text is the path of a file, so that a value can be made up by nobody.

    Example:
        >>> @dataclass(frozen=True)
        ... class Reference:
        ...     seed: int = option(0, help="which schedule is drawn")
        >>> Reference(seed=3)
        Reference(seed=3)
    """
    return dataclasses.field(default=default, metadata={"help": help, "file": file})


MAX_DIGITS = 1000
_WIDEST = 32
"""The most characters of an integer option: as many as the text form of graphs takes (P4)."""


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One declared option.

    Attributes:
        name: The field's name; in text, hyphens replace the underscores.
        annotation: Its type, without ``None``.
        optional: Whether ``none`` is a value.
        default: Its default, or ``dataclasses.MISSING``.
        help: What it does.
        is_file: Whether its text is the path of a file.
    """

    name: str
    annotation: Any
    optional: bool
    default: Any
    help: str
    is_file: bool = False

    @property
    def key(self) -> str:
        """Its name in text."""
        return self.name.replace("_", "-")

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is _MISSING

    @property
    def choices(self) -> dict[str, Any] | None:
        """The values by text, if there are finitely many."""
        if self.annotation is bool:
            return {"true": True, "false": False}
        if typing.get_origin(self.annotation) is Literal:
            return {_choice_text(value): value for value in typing.get_args(self.annotation)}
        if isinstance(self.annotation, type) and issubclass(self.annotation, enum.Enum):
            return {_choice_text(member): member for member in self.annotation}
        return None

    @property
    def accepted(self) -> str:
        """What it accepts, in words."""
        choices = self.choices
        if choices is None:
            words = {int: "an integer", float: "a number", str: "text"}[self.annotation]
        else:
            words = ", ".join(choices)
            words = f"one of {words}" if len(choices) > 2 else words.replace(", ", " or ")
        return f"{words}, or none" if self.optional else words

    def parse(self, text: str, *, quoted: bool = False) -> Any:
        """The value of a text.

        Raises:
            ValueError: If it has none.
        """
        if self.optional and text == "none" and not quoted:
            return None
        choices = self.choices
        if choices is not None:
            if text not in choices:
                raise ValueError(text)
            return choices[text]
        if self.annotation is int and len(text) > MAX_DIGITS:
            raise ValueError(text)
        value = self.annotation(text)
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(text)
        return value

    def format(self, value: Any) -> str:
        """The text of a value, quoted where needed; :meth:`parse` is its inverse."""
        if value is None:
            return "none"
        text = repr(value) if self.annotation is float else _choice_text(value)
        return format_value(text, quote=self.optional and text == "none")

    def accepts(self, value: Any) -> bool:
        """Whether a Python value is of the declared type."""
        if value is None:
            return self.optional
        choices = self.choices
        if choices is not None:
            return any(value is c or (type(value) is type(c) and value == c) for c in choices.values())
        if isinstance(value, bool):
            return False
        if self.annotation is float:
            return (isinstance(value, float) and not math.isnan(value)) or (
                isinstance(value, int) and abs(value) <= 2**53
            )
        return isinstance(value, self.annotation)


def specs(declaring: type) -> tuple[OptionSpec, ...]:
    """The options that a dataclass declares, in order.

    Raises:
        InternalError: If the class is not a dataclass, or the type of a field cannot be an option.
    """
    return _specs(declaring)


@cache
def _specs(declaring: type) -> tuple[OptionSpec, ...]:
    if "__dataclass_fields__" not in vars(declaring):
        raise InternalError(f"{declaring.__qualname__} is not a dataclass", hint="decorate it: @dataclass(frozen=True)")
    try:
        hints = typing.get_type_hints(declaring)
    except NameError as error:
        message = f"{declaring.__qualname__}: {error}"
        raise InternalError(message, hint="types of options must be importable where the class is defined") from error
    return tuple(_spec(declaring, field, hints[field.name]) for field in dataclasses.fields(declaring) if field.init)


def build(declaring: type[_Declared], item: ItemText) -> tuple[_Declared | None, list[_Finding]]:
    """The value that an item's options describe, or what is wrong with them.

    Returns:
        The value and no findings, or ``None`` and ``(code, message, span, hint)`` for each error; see
        :meth:`OptionTextError.of`.
    """
    declared = {spec.key: spec for spec in specs(declaring)}
    findings: list[_Finding] = []
    values: dict[str, Any] = {}
    for given in item.options:
        spec = declared.get(given.key.replace("_", "-"))
        if spec is None:
            hint = did_you_mean(given.key, declared) if declared else "it has no options"
            findings.append(("O3", f"'{item.name}' has no option '{given.key}'", given.key_span, hint))
            continue
        try:
            values[spec.name] = spec.parse(given.value, quoted=given.quoted)
        except ValueError:
            findings.append(_bad_value(spec, given))
            values[spec.name] = None
    for spec in declared.values():
        if spec.is_required and spec.name not in values:
            findings.append(("O5", f"'{item.name}' needs option '{spec.key}'", item.span, spec.help))
    return (None, findings) if findings else (declaring(**values), [])


def non_default_texts(value: object) -> dict[str, str]:
    """The options of a declared value that differ from their defaults, as texts by key."""
    texts = {}
    for spec in specs(type(value)):
        present = getattr(value, spec.name)
        if type(present) is not type(spec.default) or spec.format(present) != spec.format(spec.default):
            texts[spec.key] = spec.format(present)
    return texts


def check_values(value: object, what: str) -> None:
    """Check the types of options that were set in Python.

    Raises:
        InvalidInput: If one is not of its declared type.
    """
    for spec in specs(type(value)):
        present = getattr(value, spec.name)
        if not spec.accepts(present):
            raise InvalidInput(
                f"{what}: option '{spec.name}' cannot be {present!r}", hint=f"it accepts {spec.accepted}"
            )


def describe(declaring: type) -> list[str]:
    """Lines of help for the options, aligned; the help of one with a long name and many values is on a second line."""
    rows = [(f"{spec.key}={_metavariable(spec)}", f"{spec.help} ({_default_words(spec)})") for spec in specs(declaring)]
    width = max((len(left) for left, _ in rows if len(left) <= _WIDEST), default=0)
    lines = list[str]()
    for left, right in rows:
        lines += [f"{left:<{width}}  {right}"] if len(left) <= width else [left, f"{'':<{width}}  {right}"]
    return lines


def value_for_json(value: object) -> Any:
    """An option's value as JSON has it: enumeration members by their text, everything else as it is."""
    return _choice_text(value) if isinstance(value, enum.Enum) else value


def _spec(declaring: type, field: dataclasses.Field[Any], annotation: Any) -> OptionSpec:
    inner, optional = _without_none(annotation)
    metadata = field.metadata
    spec = OptionSpec(field.name, inner, optional, field.default, metadata.get("help", ""), metadata.get("file", False))
    place = f"option '{field.name}' of {declaring.__qualname__}"
    if spec.is_file and inner is not str:
        raise InternalError(f"{place}: the path of a file is text, not {annotation}")
    if field.default_factory is not _MISSING:
        raise InternalError(f"{place}: a default must be a value, not a factory")
    if inner not in (int, float, str) and spec.choices is None:
        hint = "bool, int, float, str, Literal, Enum, or one of these | None"
        raise InternalError(f"{place}: an option cannot be of type {annotation}", hint=hint)
    if spec.choices is not None and len(spec.choices) != _count(inner):
        raise InternalError(f"{place}: two of its values have the same text")
    if not spec.is_required and not spec.accepts(spec.default):
        raise InternalError(f"{place}: the default {spec.default!r} is not {spec.accepted}")
    return spec


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    optional = len(parts) < len(typing.get_args(annotation))
    return (parts[0], optional) if len(parts) == 1 else (annotation, optional)


def _count(annotation: Any) -> int:
    if annotation is bool:
        return 2
    return len(typing.get_args(annotation)) or len(list(annotation))


def _choice_text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _bad_value(spec: OptionSpec, given: OptionText) -> _Finding:
    hint = f"it accepts {spec.accepted}"
    if spec.choices is not None and len(spec.choices) > 2:
        near = closest(given.value, spec.choices)
        hint = hint if near is None else f"did you mean '{near}'? {hint}"
    shown = given.value if len(given.value) <= 60 else f"{given.value[:60]}..."
    return "O4", f"option '{given.key}' cannot be '{shown}'", given.value_span, hint


def _metavariable(spec: OptionSpec) -> str:
    choices = spec.choices
    words: Iterable[str] = [spec.annotation.__name__] if choices is None else choices
    return "|".join((*words, *(["none"] if spec.optional else [])))


def _default_words(spec: OptionSpec) -> str:
    return "required" if spec.is_required else f"default: {spec.format(spec.default)}"
