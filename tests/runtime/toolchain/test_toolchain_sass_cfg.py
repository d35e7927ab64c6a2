"""Paths through made-up instructions."""

from __future__ import annotations

from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.instruction import Instruction
from forerun.runtime.toolchain.sass_cfg import after, flow_graph
from forerun.support.cfg import Loop


def entry(*lines: str) -> EntryFacts:
    """Facts of instructions that are written as ``opcode operands -> indices of targets``."""
    return EntryFacts(8, instructions=tuple(instruction(index, line) for index, line in enumerate(lines)))


def instruction(index: int, line: str) -> Instruction:
    text, _, targets = line.partition(" -> ")
    opcode = next(word for word in text.split() if not word.startswith("@"))
    return Instruction(16 * index, opcode, text, targets=tuple(16 * int(target) for target in targets.split()))


def early(*lines: str) -> list[int]:
    """The indices of what may run before the wait."""
    return [i.offset // 16 for i in entry(*lines).before_wait()]


def test_a_straight_line():
    assert early("LDG", "ACQBULK", "STG", "EXIT") == [0]
    assert entry("LDG", "ACQBULK", "STG", "EXIT").always_waits


def test_nothing():
    assert early() == []
    assert not entry().always_waits


def test_a_predicated_wait_does_not_stop():
    assert early("LDG", "@P0 ACQBULK", "STG", "EXIT") == [0, 2, 3]
    assert early("LDG", "@PT ACQBULK", "STG", "EXIT") == [0]


def test_a_way_round_the_wait():
    assert early("@P0 BRA -> 3", "ACQBULK", "LDG", "STG", "EXIT") == [0, 3, 4]


def test_an_unconditional_branch_skips():
    lines = ("BRA -> 2", "LDG", "ACQBULK", "EXIT")
    assert early(*lines) == [0]
    assert [i.opcode for i in entry(*lines).after_wait()] == ["ACQBULK", "EXIT"]


def test_a_branch_with_a_condition_among_its_operands():
    assert early("BRA.U UP0, x -> 2", "LDG", "ACQBULK", "EXIT") == [0, 1]


def test_a_computed_branch():
    assert early("BRX R2 -> 1 3", "ACQBULK", "LDG", "STG", "EXIT") == [0, 3, 4]


def test_a_computed_branch_to_nobody_knows_where():
    assert early("BRX R2", "ACQBULK", "LDG", "EXIT") == [0, 2, 3]


def test_an_early_exit():
    facts = entry("@P0 EXIT", "ACQBULK", "PREEXIT", "EXIT")
    assert not facts.always_waits
    assert not facts.waits_before_trigger
    assert facts.waits


def test_a_loop_ends():
    assert early("LDG", "@P0 BRA -> 0", "ACQBULK", "BRA -> 3") == [0, 1]


def test_a_meeting_point_is_no_branch():
    assert early("BSSY B0, x -> 3", "ACQBULK", "NOP", "BSYNC B0", "EXIT") == [0]


def test_a_call_goes_there_and_comes_back():
    assert early("CALL.REL.NOINC -> 3", "ACQBULK", "EXIT", "LDG", "RET -> 1") == [0, 3, 4]


def test_the_graph_knows_loops_and_dominators():
    graph = flow_graph(entry("LDG", "@P0 BRA -> 0", "@P1 EXIT", "ACQBULK", "STG").instructions)
    assert graph.successors == ((1,), (0, 2), (3,), (4,), ())
    assert graph.exits == {2, 4}
    assert graph.loops == (Loop(0, frozenset({0, 1}), (1,)),)
    assert graph.dominates(3, 4)


def test_kinds():
    kinds = {
        "LDG.E.128.CONSTANT": "load",
        "LD.E": "load",
        "LDGSTS.E": "load",
        "LDS": "other",
        "LDC.64": "other",
        "STG.E": "store",
        "STS": "other",
        "ATOMG.E.ADD": "store",
        "RED.E.ADD": "store",
        "UBLKCP.S.G": "bulk",
        "UTMALDG.2D": "bulk",
        "ACQBULK": "wait",
        "PREEXIT": "trigger",
        "BAR.SYNC.DEFER_BLOCKING": "barrier",
        "BRA": "branch",
        "EXIT": "exit",
        "FFMA": "other",
    }
    assert {opcode: Instruction(0, opcode, opcode).kind for opcode in kinds} == kinds
    assert Instruction(0, "LDG.E.CONSTANT", "").constant
    assert not Instruction(0, "LDG.E", "").constant


def late(*lines: str) -> list[int]:
    """The indices of what may run after the wait."""
    return sorted(after(entry(*lines).instructions, lambda i: i.opcode == "ACQBULK"))


def test_what_comes_after_a_wait():
    assert late("LDG", "ACQBULK", "STG", "EXIT") == [2, 3]
    assert late("LDG", "STG", "EXIT") == []
    assert late("@P0 BRA -> 3", "ACQBULK", "LDG", "STG", "EXIT") == [2, 3, 4]
    assert late("LDG", "ACQBULK", "@P0 BRA -> 0", "EXIT") == [0, 1, 2, 3]
    assert late("BRA -> 2", "ACQBULK", "EXIT") == []  # nobody waits
    assert late("@P0 ACQBULK", "LDG", "EXIT") == [1, 2]
