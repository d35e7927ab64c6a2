"""What is known of a compiled kernel: registers, memory, spills, and its instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from forerun.runtime.toolchain import sass_cfg as flow

__all__ = ["EntryFacts", "Instruction", "InstructionKind", "Listing", "is_trigger", "is_wait"]

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

    def comes_from(self, file: str, lines: range | None = None) -> bool:
        """Whether it was made for a line of a file, itself or through what is inlined there."""
        return any(name == file and (lines is None or line in lines) for name, line in self.source)


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


@dataclass(frozen=True)
class EntryFacts:
    """What is known of one ``__global__`` function.

    Attributes:
        registers: Of a thread.
        shared_bytes: Static shared memory of a CTA.
        stack_bytes: Local memory of a thread.
        spill_store_bytes: What a thread stores because registers do not suffice.
        spill_load_bytes: What it loads back.
        constant_bytes: Constant banks, the parameters among them.
        instructions: In the order of their offsets; disassembled at the first look.
    """

    registers: int
    shared_bytes: int = 0
    stack_bytes: int = 0
    spill_store_bytes: int = 0
    spill_load_bytes: int = 0
    constant_bytes: int = 0
    # Left out of comparisons and of repr, since it follows from the code and costs a disassembly.
    instructions: Sequence[Instruction] = field(default=(), repr=False, compare=False)

    def of_kind(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """The instructions of some kinds, in the order of their offsets."""
        return tuple(instruction for instruction in self.instructions if instruction.kind in kinds)

    def before_wait(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """Instructions that a thread may execute before it has waited: all of these kinds, if it never waits.

        Args:
            kinds: Such as ``load``; none stands for all kinds.
        """
        return self._chosen(flow.before(self.instructions, is_wait), kinds)

    def after_wait(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """Instructions that no thread executes before it has waited, and that some thread may execute at all."""
        early = flow.before(self.instructions, is_wait)
        return self._chosen(flow.reachable(self.instructions) - early, kinds)

    def before_trigger(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """Instructions that a thread may execute before it has triggered."""
        return self._chosen(flow.before(self.instructions, is_trigger), kinds)

    @property
    def waits(self) -> bool:
        """Whether the image contains the wait at all (PDL.md, rule 13)."""
        return bool(self.of_kind("wait"))

    @property
    def always_waits(self) -> bool:
        """Whether every thread waits before it ends."""
        return self.waits and not self.before_wait("exit")

    @property
    def waits_before_trigger(self) -> bool:
        """Whether every thread waits before it can first trigger or end, which starts the secondaries (PDL.md, H5)."""
        return self.always_waits and not self.before_wait("trigger")

    def _chosen(self, indices: frozenset[int], kinds: tuple[InstructionKind, ...]) -> tuple[Instruction, ...]:
        chosen = (self.instructions[index] for index in sorted(indices))
        return tuple(instruction for instruction in chosen if not kinds or instruction.kind in kinds)


def is_wait(instruction: Instruction) -> bool:
    """Whether it is ``griddepcontrol.wait``."""
    return instruction.opcode.startswith("ACQBULK")


def is_trigger(instruction: Instruction) -> bool:
    """Whether it is ``griddepcontrol.launch_dependents``."""
    return instruction.opcode.startswith("PREEXIT")
