"""What captured kernels do to memory, as kernels of the IR: from PTX, else from machine code, else nothing is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from forerun.captured.graph import CapturedFunction, CapturedGraph
from forerun.frontends.known_texts import KnownRanges, KnownText, KnownTexts
from forerun.ir.kernel import (
    Access,
    BufferParameter,
    Implementation,
    Kernel,
    Phase,
    Role,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.types import DType
from forerun.runtime.toolchain import processors
from forerun.runtime.toolchain.errors import ToolchainMissing
from forerun.runtime.toolchain.image_accesses import ImageAccesses, accesses_of_image
from forerun.support.diagnostics import InvalidInput

__all__ = ["EVERYTHING", "KernelReader", "ReadKernel", "pointer_name", "with_fixed_code"]

EVERYTHING = "everything"
"""The parameter, and the buffer, of all memory that the program's pointers point into, and what lies between."""

_EVERYTHING = BufferParameter(EVERYTHING, DType.U8)
_Question = tuple[str, str, frozenset[int] | None, frozenset[int]]


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """A kernel.

    Attributes:
        kernel: Its parameters are ``p0``, ``p1``, ... if its PTX says what it does.
        reason: Why it is treated strictly, if it is.
        names: The names of its parameters in its PTX.
        ranges: Which bytes its launches may access, by its PTX.
    """

    kernel: Kernel
    reason: str = ""
    names: tuple[str, ...] = ()
    ranges: KnownRanges | None = None


class KernelReader:
    """Reads the functions of a captured graph; each text and image once."""

    def __init__(self, captured: CapturedGraph) -> None:
        self.captured = captured
        self._texts = KnownTexts()
        self._accesses: dict[_Question, ImageAccesses | None] = {}

    def look(self, questions: Iterable[_Question]) -> None:
        """Look at machine code, all processors at once: :meth:`read` is going to be asked for it.

        Args:
            questions: The digest of an image, a kernel's name, and ``pointers`` and ``zeros`` as for :meth:`read`.
        """
        different: dict[tuple[str, str], dict[_Question, None]] = {}  # one kernel after the other
        for one in questions:
            if one not in self._accesses:
                different.setdefault(one[:2], {})[one] = None
        images = self.captured.images
        longest_first = sorted(different, key=lambda one: len(images.get(one[0], b"")), reverse=True)
        with ThreadPoolExecutor(processors()) as workers:
            found = workers.map(lambda key: [(one, self._looked_at(one)) for one in different[key]], longest_first)
            self._accesses |= (pair for pairs in found for pair in pairs)

    def read(
        self,
        function: CapturedFunction,
        nulls: tuple[bool, ...],
        pointers: frozenset[int] | None,
        zeros: frozenset[int] = frozenset(),
        fixed: str = "",
    ) -> ReadKernel:
        """The kernel of a function.

        Args:
            function: The function.
            nulls: For each parameter, whether all its bytes are 0 at the node.
            pointers: Where in its parameters there are pointers into memory of the device; ``None`` if some point to
                other memory.
            zeros: Where in its parameters there are words of 64 bits that are 0, as null pointers are.
            fixed: Why its code must stay, if it must.
        """
        reason = fixed or "its PTX is not known"
        text = None if fixed else self.captured.texts.get(function.text)
        if text is not None:
            try:
                found = self._texts.read(text, function, nulls)
            except InvalidInput as error:
                found = KnownText(f"its PTX cannot be read: {' '.join(str(error).split())}")
            if found.kernel is not None:
                return ReadKernel(found.kernel, "", found.names, found.ranges)
            reason = found.reason
        kernel, why = self._from_image(function, pointers, zeros)
        return ReadKernel(kernel, f"{reason}; {why}" if why else reason)

    def _from_image(
        self, function: CapturedFunction, pointers: frozenset[int] | None, zeros: frozenset[int]
    ) -> tuple[Kernel, str]:
        """What machine code shows: a wait before all accesses, and through which pointers it accesses memory."""
        code = _code_of(function)
        question = function.image, function.name, pointers, zeros
        if question not in self._accesses:
            self._accesses[question] = self._looked_at(question)
        found = self._accesses[question]
        if found is None:
            return _anything(function, code), "its machine code cannot be looked at"
        if pointers is None:
            return _anything(function, code), found.reach.unknown
        steps: list[Step] = [Trigger()] if found.triggers else []
        if found.waits_first:
            steps.append(Wait())
        reach = found.reach
        if reach.unknown:
            return _anything(function, code, steps, found.may_poll), reach.unknown
        reads, writes = (
            tuple(Access(pointer_name(at)) for at in sorted(places)) for places in (reach.reads, reach.writes)
        )
        names = dict.fromkeys(access.parameter for access in (*reads, *writes))
        # Which bytes it stores is not known, so it counts as reading them, too.
        steps.append(Phase("anything", tuple(dict.fromkeys((*reads, *writes))), writes))
        parameters = tuple(BufferParameter(name, DType.U8) for name in names)
        if found.may_poll:
            return Kernel(function.name, parameters, None, (code,)), _POLLS
        return Kernel(function.name, parameters, (Role("all", tuple(steps)),), (code,)), ""

    def _looked_at(self, question: _Question) -> ImageAccesses | None:
        """What a function does; ``None`` if its image was not seen, or nothing is there to look with."""
        image, name, pointers, zeros = question
        code = self.captured.images.get(image)
        try:
            return None if code is None else accesses_of_image(code, image, name, pointers, zeros)
        except ToolchainMissing:
            return None


def with_fixed_code(read: ReadKernel, function: CapturedFunction, reason: str) -> ReadKernel:
    """A kernel that keeps its code, whatever is known of what it accesses."""
    if read.kernel.has_fixed_code:
        return read
    kernel = replace(read.kernel, implementations=(_code_of(function),))
    return replace(read, kernel=kernel, reason=read.reason or reason)


def _code_of(function: CapturedFunction) -> Implementation:
    """The machine code that was loaded."""
    return Implementation("cubin", f"images/{function.image or 'unknown'}.cubin", function.name)


def pointer_name(offset: int) -> str:
    """The parameter that stands for a pointer at an offset in a kernel's parameters."""
    return f"at{offset}"


def _anything(
    function: CapturedFunction, code: Implementation, steps: Sequence[Step] = (), polls: bool = False
) -> Kernel:
    """A kernel that may access all memory; a black box if it may wait for others, so that nothing overlaps it."""
    everything = (Access(EVERYTHING),)
    role = Role("all", (*steps, Phase("anything", everything, everything)))
    return Kernel(function.name, (_EVERYTHING,), None if polls else (role,), (code,))


_POLLS = "it may wait for others in a loop"
