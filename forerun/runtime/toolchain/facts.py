"""What is known of a compiled kernel: registers, memory, spills, and its instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from forerun.runtime.toolchain import sass_cfg
from forerun.runtime.toolchain.instruction import Instruction, InstructionKind, is_trigger, is_wait

__all__ = ["EntryFacts"]


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
        return self._chosen(sass_cfg.before(self.instructions, is_wait), kinds)

    def after_wait(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """Instructions that no thread executes before it has waited, and that some thread may execute at all."""
        early = sass_cfg.before(self.instructions, is_wait)
        return self._chosen(sass_cfg.reachable(self.instructions) - early, kinds)

    def before_trigger(self, *kinds: InstructionKind) -> tuple[Instruction, ...]:
        """Instructions that a thread may execute before it has triggered."""
        return self._chosen(sass_cfg.before(self.instructions, is_trigger), kinds)

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
