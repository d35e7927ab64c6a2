"""What a source includes: only what it brings, and CUDA's own headers.

NVRTC opens any file that a directive leads to, and shows its lines in its errors. So directives are looked at before:
each must name its file in plain words, and neither from the root nor upwards. Names that are not given with the unit
are then looked for in CUDA's folders alone (NVRTC's ``--no-source-include``; docs/toolchain.md).

What stands in comments or behind ``#if`` counts, too: whether a directive is read is the preprocessor's business.

Some of CUDA's headers include files by macros: Thrust chooses its back ends so (``#include
__THRUST_HOST_SYSTEM_GATHER_HEADER``), and CUB includes Thrust. The preprocessor replaces each word of such a path
(``thrust/system/cpp/detail/gather.h``), so a unit beside them may not define what their paths are made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["IncludeDirective", "included_names", "refused_definitions", "refused_includes"]

_SPLICE = re.compile(r"\\\r*\n")
"""What joins a line with the next one. NVRTC lets any number of carriage returns stand between."""

_BLANK = r"(?:[^\S\n]|/\*.*?\*/)*+"
"""What may stand between the words of a directive: blanks and comments."""

_HASH = r"(?:\#|%:|\?\?=)"
"""What a directive begins with, in all its spellings."""

_NAME = r'(?:"(?P<quoted>[^"\n]*)"|<(?P<angled>[^>\n]*)>)?'
_BEGIN_DIRECTIVE = re.compile(_HASH)
_DIRECTIVE = re.compile(rf"{_HASH}{_BLANK}(?P<word>include_next|include|import|embed)\b{_BLANK}{_NAME}", re.DOTALL)
_BEGIN_QUESTION = re.compile(r"__has_(?:include|embed)|_CCCL_HAS_INCLUDE")
_QUESTION = re.compile(
    rf"(?P<word>__has_(?:include(?:_next)?|embed)\w*|_CCCL_HAS_INCLUDE\b)(?P<asked>{_BLANK}\({_BLANK}{_NAME})?",
    re.DOTALL,
)
_IS_IT_DEFINED = re.compile(r"\bdefined\s*\(?\s*$|^\s*(?:\#|%:|\?\?=)\s*(?:el)?ifn?def\s*$")
_PASTE = re.compile(r"##|%:%:|\?\?=\?\?=")
_PIECE = re.compile(r"(?<![\w$])(_|__|__h|__ha|__has|__has_[a-z]*)(?![\w$])")
_PASTED = ("__has_include", "__has_embed")
_TEXTS_KEPT = 512
_LIBRARIES = ("thrust/", "cub/")
_DEFINITION = re.compile(rf"{_HASH}{_BLANK}(?:define|undef)\b{_BLANK}([\w$]+)", re.DOTALL)
_OWN_MACRO = re.compile(r"__THRUST_|THRUST_MR_|_*THRUST_\w*(?:HEADER|ROOT|NAMESPACE)")
_WORD = re.compile(r"[\w$]+")


@dataclass(frozen=True, slots=True)
class IncludeDirective:
    """A directive, or a question of the preprocessor, that names a file.

    Attributes:
        word: ``include``, ``include_next``, ``import``, ``embed``, ``__has_include``...
        name: The file; ``None`` if it does not stand there in plain words (a macro).
        line: Where, from 1.
    """

    word: str
    name: str | None
    line: int

    @property
    def is_question(self) -> bool:
        """Whether it asks for a file without including it."""
        return "has_" in self.word.lower()


def included_names(text: str) -> tuple[str, ...]:
    """The names that a text includes, in order."""
    return tuple(d.name for d in _directives(text) if d.name is not None and not d.is_question)


def refused_includes(texts: Mapping[str, str], given: frozenset[str]) -> tuple[Diagnostic, ...]:
    """What the texts of a unit, by their names, may not include; ``given`` are the names that can be included."""
    return (*_refused_directives(texts, given), *_refused_characters(texts), *_pasted_questions(texts))


def _refused_directives(texts: Mapping[str, str], given: frozenset[str]) -> Iterator[Diagnostic]:
    for name, text in texts.items():
        for directive in _directives(text):
            if problem := _problem(directive, given):
                yield Diagnostic("include", problem, Location("text", name, directive.line, 1, 1))


def _refused_characters(texts: Mapping[str, str]) -> Iterator[Diagnostic]:
    for name, text in texts.items():
        if "\0" in text:
            yield Diagnostic("include", "a text may not hold the character of code 0", Location("file", name))


def _pasted_questions(texts: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Pieces that macros of the unit may paste together to a question."""
    spliced = {name: _SPLICE.sub("", text) for name, text in texts.items()}
    if not any(map(_PASTE.search, spliced.values())):
        return
    pieces = ((name, piece[1]) for name, text in spliced.items() for piece in _PIECE.finditer(text))
    for name, piece in dict.fromkeys(pieces):
        if any(whole.startswith(piece) and whole != piece for whole in _PASTED):
            message = f"{piece} may become a question for a file where texts are pasted"
            yield Diagnostic("include", message, Location("file", name))


def _problem(directive: IncludeDirective, given: frozenset[str]) -> str:
    name, word = directive.name, directive.word
    if name is None:
        return f"{word} must name its file in plain words, and not by a macro"
    if name in given:
        return ""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.is_absolute() or windows.drive or ".." in windows.parts or "~" in name:
        return (
            f"'{name}' is not part of the unit: a kernel includes what it brings, what forerun brings, CUDA's headers"
        )
    return ""


@lru_cache(maxsize=_TEXTS_KEPT)
def _directives(text: str) -> tuple[IncludeDirective, ...]:
    if "include" not in text.lower() and "import" not in text and "embed" not in text and "\\" not in text:
        return ()
    spliced = _SPLICE.sub("", text)
    lines = None if spliced == text else _lines_of(text)
    return tuple(_found(spliced, lines))


def _found(text: str, lines: list[int] | None) -> Iterator[IncludeDirective]:
    for begin, pattern in ((_BEGIN_DIRECTIVE, _DIRECTIVE), (_BEGIN_QUESTION, _QUESTION)):
        # At each place where one may begin, whatever was found before: what looks like a comment there may be none, and
        # then a directive stands in it.
        for place in begin.finditer(text):
            match = pattern.match(text, place.start())
            if match is None or _is_harmless(match, text[text.rfind("\n", 0, place.start()) + 1 : place.start()]):
                continue
            name = match["quoted"] if match["quoted"] is not None else match["angled"]
            number = text.count("\n", 0, match.start())
            yield IncludeDirective(match["word"], name, number + 1 if lines is None else lines[number])


def _is_harmless(match: re.Match[str], before: str) -> bool:
    """Whether more than blanks and comments stands before a directive, or it includes nothing."""
    if match.re is _DIRECTIVE:
        # A comment may have begun on another line.
        return bool(before.strip()) and not before.rstrip().endswith("*/")
    return match["asked"] is None and _IS_IT_DEFINED.search(before) is not None


def _lines_of(text: str) -> list[int]:
    """For each line of the spliced text, the number of the line that it begins with."""
    pieces = text.split("\n")
    goes_on = [False, *(piece.rstrip("\r").endswith("\\") for piece in pieces)]
    return [number for number, _ in enumerate(pieces, 1) if not goes_on[number - 1]]


def refused_definitions(
    texts: Mapping[str, str], foreign: Iterable[str], folders: Sequence[Path]
) -> tuple[Diagnostic, ...]:
    """The definitions of a unit that could lead CUDA's headers to other files.

    ``foreign`` is what they include that is not given with the unit; the folders are those of CUDA's headers.
    """
    if not any(name.startswith(_LIBRARIES) for name in foreign):
        return ()
    words = _path_words(tuple(folders))
    return tuple(
        Diagnostic("include", f"'{word}' may not be defined beside Thrust or CUB: their includes are made of it", place)
        for name, text in texts.items()
        for word, place in _definitions(name, _SPLICE.sub("", text))
        if word in words or _OWN_MACRO.match(word)
    )


def _definitions(name: str, text: str) -> Iterable[tuple[str, Location]]:
    matches = (_DEFINITION.match(text, place.start()) for place in _BEGIN_DIRECTIVE.finditer(text))
    return ((match[1], Location("file", name)) for match in matches if match is not None)


@lru_cache(maxsize=8)
def _path_words(folders: tuple[Path, ...]) -> frozenset[str]:
    """The words in the paths of Thrust's back ends."""
    paths = (
        path.relative_to(folder) for folder in folders for path in folder.joinpath("thrust", "system").rglob("*.[hi]*")
    )
    return frozenset(word for path in paths for word in _WORD.findall(path.as_posix()))
