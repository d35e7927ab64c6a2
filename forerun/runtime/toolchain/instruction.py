"""An instruction of machine code, and what it does as far as order among kernels is concerned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

__all__ = ["Instruction", "InstructionKind", "Listing", "is_trigger", "is_wait"]

InstructionKind = Literal["load", "store", "bulk", "wait", "trigger", "barrier", "branch", "exit", "other"]
"""What an instruction does, as far as order among kernels is concerned."""

# The first part of an opcode decides. Shared, local and constant memory (LDS, STS, LDL, STL, LDC) are a CTA's own.
_KINDS: dict[str, InstructionKind] = {
    **dict.fromkeys(("LD", "LDG", "LDGSTS", "LDGMC"), "load"),
    **dict.fromkeys(("ST", "STG", "RED", "REDG", "REDAS", "ATOM", "ATOMG"), "store"),
    **dict.fromkeys(("UBLKCP", "UBLKPF", "UBLKRED", "UTMALDG", "UTMASTG", "UTMAREDG", "UTMAPF"), "bulk"),
    "ACQBULK": "wait",
    "PREEXIT": "trigger",
    **dict.fromkeys(("BAR", "SYNCS", "UCGABAR_ARV", "UCGABAR_WAIT"), "barrier"),
    **dict.fromkeys(("BRA", "BRX", "BRXU", "JMP", "JMX", "JMXU", "CALL", "RET"), "branch"),
    "EXIT": "exit",
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """A machine instruction (SASS).

    Attributes:
        offset: Its place in the kernel's code, in bytes.
        opcode: With its modifiers: ``LDG.E.128.CONSTANT``.
        text: The whole instruction, with predicate and operands.
        source: The lines that it comes from, as ``(file, line)``: the innermost inlined function first, the kernel's
            own line last. Empty if nothing is known.
        targets: Where a branch may go to, as offsets; none if that is not known.
    """

    offset: int
    opcode: str
    text: str
    source: tuple[tuple[str, int], ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def kind(self) -> InstructionKind:
        """What it does. An atomic operation is a ``store``, an asynchronous copy from global to shared a ``load``.

        ``load`` and ``store`` are accesses that may reach global memory; ``bulk`` are asynchronous bulk copies,
        prefetches and reductions, tensor maps' among them; ``wait`` is ``griddepcontrol.wait`` (ACQBULK) and
        ``trigger`` is ``griddepcontrol.launch_dependents`` (PREEXIT).
        """
        return _KINDS.get(self.opcode.partition(".")[0], "other")

    @property
    def constant(self) -> bool:
        """Whether it is a load that the memory model does not order (``ld.global.nc``)."""
        return self.kind == "load" and ".CONSTANT" in self.opcode

    @property
    def predicated(self) -> bool:
        """Whether some threads may pass it without executing it."""
        return self.text.startswith("@") and not self.text.startswith(("@PT ", "@UPT "))


class Listing(Sequence[Instruction]):
    """Instructions that are disassembled at the first look, since that takes much longer than to compile."""

    def __init__(self, disassemble: Callable[[], tuple[Instruction, ...]]) -> None:
        self._disassemble = disassemble

    @cached_property
    def _instructions(self) -> tuple[Instruction, ...]:
        return self._disassemble()

    def __getitem__(self, index: Any) -> Any:
        return self._instructions[index]

    def __len__(self) -> int:
        return len(self._instructions)


def is_wait(instruction: Instruction) -> bool:
    """Whether it is ``griddepcontrol.wait``."""
    return instruction.opcode.startswith("ACQBULK")


def is_trigger(instruction: Instruction) -> bool:
    """Whether it is ``griddepcontrol.launch_dependents``."""
    return instruction.opcode.startswith("PREEXIT")
