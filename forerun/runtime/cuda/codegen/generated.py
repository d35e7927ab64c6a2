"""Phases without CUDA source, which the module that their references name can write.

Such a module has a function ``cuda_phases`` of the type :class:`PhaseGenerator`, for all kernels whose phases name
functions of it and of no other module.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from forerun.ir.buffer import Buffer
from forerun.ir.demands import is_function_vouched, split_function
from forerun.ir.kernel import Kernel
from forerun.runtime.cuda.codegen.body import RoleWarps

__all__ = ["GeneratedPhases", "PhaseGenerator", "generator_of"]


@dataclass(frozen=True, slots=True)
class GeneratedPhases:
    """CUDA C++ for the phases of one kernel at one node: the struct ``Locals``, and a function for each phase.

    ``source`` is what it includes: ``package:resource``.
    """

    text: str
    source: str


class PhaseGenerator(Protocol):
    """Writes the phases of a kernel from its declaration."""

    def __call__(
        self, kernel: Kernel, buffers: Mapping[str, Buffer], members: Mapping[str, str], roles: Sequence[RoleWarps]
    ) -> GeneratedPhases:
        """The phases of a kernel, by what is bound to its buffer parameters, and by its members of ``Arguments``.

        Raises:
            CannotGenerate: If a declaration does not fit the function that it refers to.
        """
        ...


def generator_of(kernel: Kernel) -> PhaseGenerator | None:
    """What can write the phases of a kernel; ``None`` if nothing can, or nobody vouches for the module."""
    references = [phase.reference or "" for phase in kernel.phases]
    modules = {named[0] for named in map(split_function, references) if named is not None and all(references)}
    if len(modules) != 1 or not all(map(is_function_vouched, references)):
        return None
    try:
        module = importlib.import_module(modules.pop())
    except ImportError:  # registered functions may say what they like about their module
        return None
    return cast("PhaseGenerator | None", getattr(module, "cuda_phases", None))
