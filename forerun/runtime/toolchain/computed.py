"""CUDA's headers that include files by macros: a unit that includes them may not define what their paths are made of.

Thrust chooses its back ends so (``#include __THRUST_HOST_SYSTEM_GATHER_HEADER``), and CUB includes Thrust. The
preprocessor replaces each word of such a path (``thrust/system/cpp/detail/gather.h``), so that whoever defines one of
them chooses the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from forerun.runtime.toolchain.includes import BLANK, HASH, SPLICE
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["refused_definitions"]

_LIBRARIES = ("thrust/", "cub/")
_DEFINITION = re.compile(rf"{HASH}{BLANK}(?:define|undef)\b{BLANK}([\w$]+)", re.DOTALL)
_HASH = re.compile(HASH)
_OWN = re.compile(r"__THRUST_|THRUST_MR_|_*THRUST_\w*(?:HEADER|ROOT|NAMESPACE)")
_WORD = re.compile(r"[\w$]+")


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
        for word, place in _definitions(name, SPLICE.sub("", text))
        if word in words or _OWN.match(word)
    )


def _definitions(name: str, text: str) -> Iterable[tuple[str, Location]]:
    matches = (_DEFINITION.match(text, place.start()) for place in _HASH.finditer(text))
    return ((match[1], Location("file", name)) for match in matches if match is not None)


@lru_cache(maxsize=8)
def _path_words(folders: tuple[Path, ...]) -> frozenset[str]:
    """The words in the paths of Thrust's back ends."""
    paths = (
        path.relative_to(folder) for folder in folders for path in folder.joinpath("thrust", "system").rglob("*.[hi]*")
    )
    return frozenset(word for path in paths for word in _WORD.findall(path.as_posix()))
