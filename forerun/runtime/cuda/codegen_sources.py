"""Reads what a kernel's ``Implementation.source`` names, and what that includes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

__all__ = ["LIBRARY", "file_name", "included", "read_source"]

LIBRARY = "forerun.kernels.cuda"
"""The package with what phases share."""

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


@cache
def read_source(location: str) -> bytes:
    """The contents of ``package:resource`` or of a file.

    Raises:
        OSError: If it cannot be read.
        ModuleNotFoundError: If there is no such package.
    """
    package, colon, resource = location.rpartition(":")
    if not colon:
        return Path(location).read_bytes()
    return resources.files(package).joinpath(resource).read_bytes()


@cache
def included(location: str) -> tuple[tuple[str, str], ...]:
    """The file and all that it includes by ``"name"``, by the name under which it is included.

    Names are looked for beside the file, then among what phases share; others are left to the compiler.

    Raises:
        OSError: If the file cannot be read.
        ModuleNotFoundError: If there is no such package.
        UnicodeDecodeError: If a file is not text.
    """
    name, beside = _neighbourhood(location)
    found = {name: read_source(location).decode()}
    pending = _INCLUDE.findall(found[name])
    while pending:
        name = pending.pop()
        if name not in found and (text := _find(name, beside)) is not None:
            found[name] = text
            pending += _INCLUDE.findall(text)
    return tuple(sorted(found.items()))


def file_name(location: str) -> str:
    """The name under which a file is included."""
    return _neighbourhood(location)[0]


def _neighbourhood(location: str) -> tuple[str, Callable[[str], str]]:
    """The file's name, and the location of a file of another name beside it."""
    package, colon, resource = location.rpartition(":")
    if colon:
        return resource, lambda name: f"{package}:{name}"
    path = Path(location)
    return path.name, lambda name: str(path.parent / name)


def _find(name: str, beside: Callable[[str], str]) -> str | None:
    for location in (beside(name), f"{LIBRARY}:{name}"):
        try:
            return read_source(location).decode()
        except (FileNotFoundError, IsADirectoryError):
            continue
    return None
