"""What goes into the toolchain and what comes out: a translation unit, and its cubin with what is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.includes import included_names
from forerun.support.diagnostics import InvalidInput

__all__ = ["Cubin", "Source", "own_name", "virtual_arch"]

_ARCH = re.compile(r"sm_(\d+[af]?)")


@dataclass(frozen=True)
class Source:
    """One translation unit of CUDA C++, complete in memory.

    Attributes:
        name: What messages and line information call it, ``gemv_bf16.cu`` for instance.
        text: The source.
        headers: The texts that it includes, by the names that it includes them by.
    """

    name: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """All texts by their names, the unit's own among them."""
        return {**dict(self.headers), self.name: self.text}

    @cached_property
    def foreign_includes(self) -> tuple[str, ...]:
        """The names that are included, but not given: CUDA's headers."""
        names = {name for text in self.texts.values() for name in included_names(text)}
        return tuple(sorted(names - dict(self.headers).keys()))


@dataclass(frozen=True)
class Cubin:
    """An image that a driver loads, and what is known of it.

    Attributes:
        code: The image.
        ptx: What it was assembled from.
        arch: What it is for, ``sm_90`` for instance.
        log: Warnings of NVRTC and ptxas; empty if there were none.
        entries: The facts of each ``__global__`` function, by its name.
    """

    code: bytes = field(repr=False)
    ptx: str = field(repr=False)
    arch: str
    log: str
    entries: Mapping[str, EntryFacts]


def own_name(path: str, names: Iterable[str]) -> str:
    """The text of ours that a tool's path leads to; the path itself if it leads to none."""
    plain = path.replace("\\", "/")
    own = [name for name in names if plain == name or plain.endswith(f"/{name}")]
    return max(own, key=len, default=path)


def virtual_arch(arch: str) -> str:
    """The architecture that PTX for a GPU is made for.

    Raises:
        InvalidInput: If the GPU's architecture is not written as ``sm_90``.

    Example:
        >>> virtual_arch("sm_90a")
        'compute_90a'
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        raise InvalidInput(f"no architecture: {arch!r}", hint="architectures are written as sm_90 or sm_90a")
    return f"compute_{match[1]}"
