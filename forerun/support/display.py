"""How things show and save themselves: what prints or draws them lies above them, so it is registered here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["display", "register_display"]

_displays: dict[str, Callable[..., Any]] = {}


def register_display(form: str, function: Callable[..., Any]) -> None:
    """Say which function shows what :func:`display` is given, in a form such as ``graph.svg``."""
    _displays[form] = function


def display(form: str, *arguments: Any) -> Any:
    """What the registered function returns; :mod:`forerun` registers one for each form when it is imported."""
    return _displays[form](*arguments)
