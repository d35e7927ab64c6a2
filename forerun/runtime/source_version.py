"""A digest of forerun's own source code, so that results cached on disk are used by the same version only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from forerun.runtime.toolchain.cache import key_of

__all__ = ["source_version"]


@cache
def source_version(*packages: str) -> str:
    """Return a digest of the source text of packages of forerun, such as ``ptx``, with all their modules."""
    root = files("forerun")
    return key_of(*(one.read_bytes() for name in packages for one in _sources(root.joinpath(name))))


def _sources(folder: Traversable) -> Iterator[Traversable]:
    for one in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if one.name.endswith(".py"):
            yield one
        elif one.is_dir() and one.name != "__pycache__":
            yield from _sources(one)
