"""HTML and SVG from data: text is escaped unless it is :class:`Markup` already."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

from forerun.support.escaping import visible_lines

__all__ = ["Markup", "asset", "embed_json", "join", "number", "tag"]


class Markup(str):
    """Text that is HTML already. Only :func:`tag`, :func:`join` and files of the package should make it."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: The element's name.
        *children: Content; what is not :class:`Markup` is escaped.
        **attributes: ``class_`` and ``for_`` lose the underscore, others turn into hyphens; ``None`` and ``False`` are
            left out, ``True`` has no value.

    Example:
        >>> tag("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    content = join(*children)
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    if not content and name in _SHAPES:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{content}</{name}>")


def join(*children: str, separator: str = "") -> Markup:
    """The children one after the other, escaped where they are not :class:`Markup`."""
    return Markup(separator.join(c if isinstance(c, Markup) else html.escape(visible_lines(c)) for c in children))


def embed_json(value: Any) -> Markup:
    """JSON that may stand inside a ``<script>`` element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def asset(name: str) -> Markup:
    """A style sheet or script of the package, as the content of an element."""
    return Markup(files("forerun.report").joinpath("assets", name).read_text(encoding="utf-8"))


def number(value: float) -> str:
    """A coordinate, with a decimal place only where there is one."""
    return f"{value:.1f}".removesuffix(".0")


_VOID = frozenset({"br", "hr", "input", "meta"})
_SHAPES = frozenset({"circle", "line", "path", "polygon", "rect", "use"})


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = number(value) if isinstance(value, (int, float)) else value
    return f' {name}="{html.escape(visible_lines(text))}"'
