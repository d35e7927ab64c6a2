"""What tells one version of forerun's own code from another: results that are kept on disk count for one version."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from forerun.runtime.toolchain.cache import key_of

__all__ = ["source_version"]


@cache
def source_version(*packages: str) -> str:
    """A digest of the source text of packages, such as ``ptx``, with all that is in them."""
    root = files("forerun")
    return key_of(*(one.read_bytes() for name in packages for one in _sources(root.joinpath(name))))


def _sources(folder: Traversable) -> Iterator[Traversable]:
    for one in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if one.name.endswith(".py"):
            yield one
        elif one.is_dir() and one.name != "__pycache__":
            yield from _sources(one)
