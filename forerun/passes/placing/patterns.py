"""Patterns of names in the options of passes: ``blk.*.ffn_*_exps, #sample``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import translate
from functools import cache

from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["matches", "patterns_in", "require_matching"]


def patterns_in(text: str) -> tuple[str, ...]:
    """The patterns of a text, which commas or spaces separate."""
    return tuple(re.split(r"[,\s]+", text.strip(", \t\n"))) if text.strip(", \t\n") else ()


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def matches(text: str, name: str) -> bool:
    """Whether a name fits one of the patterns of a text, as a whole or up to a dot.

    ``*`` stands for any characters, ``?`` for one, ``[a-c]`` for one of some.

    Example:
        >>> matches("blk.*.ffn_*_exps", "blk.12.ffn_gate_exps.weight"), matches("blk.*.ffn", "blk.1.ffn_norm")
        (True, False)
    """
    return any(_fits(pattern, name) for pattern in patterns_in(text))


def _fits(pattern: str, name: str) -> bool:
    expression = _compiled(pattern)
    ends = (at for at, character in enumerate(name) if character == ".")
    return bool(expression.match(name)) or any(expression.match(name[:end]) for end in ends)


def require_matching(about: str, text: str, names: Collection[str], kind: str, sigil: str) -> None:
    """Refuse patterns that fit nothing.

    Args:
        about: Whose option it is, for the message.
        text: The patterns.
        names: What they may fit.
        kind: What these are, such as ``weight``.
        sigil: What stands before such a name in text.

    Raises:
        InvalidInput: If one fits none of the names.
    """
    for pattern in patterns_in(text):
        if not any(_fits(pattern, name) for name in names):
            raise InvalidInput(f"{about}: '{pattern}' fits no {kind}", hint=_hint(pattern, names, kind, sigil))


def _hint(pattern: str, names: Iterable[str], kind: str, sigil: str) -> str:
    known = list(names)
    return did_you_mean(pattern, known, sigil=sigil) if known else f"the graph has no {kind}"
