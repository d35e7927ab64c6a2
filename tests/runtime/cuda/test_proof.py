"""The proof in the machine code: what ptxas does to kernels, and what is said of images that break each rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forerun.ir.kernel import Access, Kernel, Phase, Trigger
from forerun.ir.nodes import Launch
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.cuda.codegen.unit import Unit
from forerun.runtime.cuda.sass import inspection as inspection_module
from forerun.runtime.cuda.sass.addresses import Provenance
from forerun.runtime.cuda.sass.inspection import inspect_code, prove_code
from forerun.runtime.cuda.sass.lines import steps_of_lines
from forerun.runtime.cuda.sass.proof import UnitProof, prove_unit
from forerun.runtime.toolchain import EntryFacts, Instruction, Source, ToolchainMissing, compile_unit, missing_toolchain
from forerun.support.diagnostics import InternalError
from forerun.testing import assert_hoists_survive
from tests.runtime.cuda.hoist_samples import (
    PLAIN,
    RESTRICTED,
    UNORDERED,
    all_steps,
    hoisting_graph,
    weigh_kernel,
)

needs_toolchain = pytest.mark.skipif(missing_toolchain() is not None, reason=str(missing_toolchain()))


# Real machine code


@needs_toolchain
def test_a_hoist_that_survives(tmp_path: Path) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, PLAIN))
    (first, *others) = assert_hoists_survive(graph, at_least=1)
    assert first.waits == (0, 0)  # the first of a chain has nothing to wait for
    proof = others[0]
    assert proof.kernel == "weigh.pdl2.hoisted"
    assert [(p.phase, p.place, p.above, p.below, p.verdict) for p in proof.phases] == [
        ("load", "before", 1, 0, "kept"),
        ("multiply", "after", 0, 1, "kept"),
        ("store", "after", 0, 0, "kept"),
    ]
    assert proof.waits == proof.triggers == (1, 1)
    assert proof.verdict == "kept"
    assert [phase.phase for phase in proof.hoisted] == ["load"]


@needs_toolchain
@pytest.mark.parametrize("load", [UNORDERED, RESTRICTED], ids=["asm", "restrict"])
def test_an_unordered_load_loses_its_hoist(tmp_path: Path, load: str) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, load))
    with pytest.raises(AssertionError, match=r"phase 'load' is before the wait, but 1 of its 1 loads were sunk below"):
        assert_hoists_survive(graph)
    code = build_code(graph, "sm_90")
    proofs = [proof for proof in prove_code(graph, code).values() if proof.waits[0]]
    for proof in proofs:
        assert {finding.code for finding in proof.findings} == {"S3", "S4"}
        assert ".CONSTANT" in proof.lost[0].instruction
        assert proof.verdict == "lost"


@needs_toolchain
def test_a_lost_hoist_is_a_remark_in_production(tmp_path: Path) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, UNORDERED))
    found = inspect_code(graph, build_code(graph, "sm_90"), "sm_90", 132)
    texts = [str(remark) for remark in found.remarks]
    assert any(text.startswith("warning[S3]: node n1: kernel 'weigh.pdl2.hoisted'") for text in texts)
    assert all("error" not in text for text in texts)


@needs_toolchain
def test_an_unordered_load_is_told_without_a_wait(tmp_path: Path) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, UNORDERED), pipeline="")
    with pytest.raises(AssertionError, match=r"S4 \(lost\): phase 'load' loads with .nc"):
        assert_hoists_survive(graph)


@needs_toolchain
def test_an_image_without_the_wait_is_refused(tmp_path: Path) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, PLAIN))
    code = build_code(graph, "sm_90")
    waits = 'asm volatile("griddepcontrol.wait;" ::: "memory");'
    entries = []
    for unit in code.units:
        assert isinstance(unit.source, Source)
        headers = tuple((name, text.replace(waits, "")) for name, text in unit.source.headers)
        assert headers != unit.source.headers
        entries.append(compile_unit(replace(unit.source, headers=headers)).entries[unit.entry])
    with pytest.raises(InternalError) as caught:
        inspect_code(graph, replace(code, entries=entries), "sm_90", 132)
    text = str(caught.value)
    assert "node 'n1', kernel 'weigh.pdl2.hoisted'" in text
    assert "error[S1]: node n1: machine code of kernel 'weigh.pdl2.hoisted'" in text
    assert "no wait (ACQBULK)" in text


@needs_toolchain
@pytest.mark.parametrize("delays", [False, True])
def test_warps_without_a_role_wait_like_the_others(tmp_path: Path, delays: bool) -> None:
    kernel = weigh_kernel(tmp_path, PLAIN)
    assert kernel.roles is not None
    narrow = replace(kernel, roles=(replace(kernel.roles[0], warps=2),))
    graph = hoisting_graph(narrow, launch=Launch(block=(128, 1, 1)))
    proofs = prove_code(graph, build_code(graph, "sm_90", delays=delays)).values()
    assert [proof.waits for proof in proofs if proof.waits[0]] == [(1, 2), (1, 2)]
    assert all(proof.verdict == "kept" for proof in proofs)


@needs_toolchain
def test_a_graph_without_hoists_cannot_pass_for_one(tmp_path: Path) -> None:
    graph = hoisting_graph(weigh_kernel(tmp_path, PLAIN), pipeline="infer-dependencies,insert-pdl")
    assert_hoists_survive(graph)
    with pytest.raises(AssertionError, match="0 phases are hoisted, not 1 or more"):
        assert_hoists_survive(graph, at_least=1)


def test_no_disassembler_is_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> dict[int, UnitProof]:
        raise ToolchainMissing("no nvdisasm")

    graph = hoisting_graph(weigh_kernel(tmp_path, PLAIN))
    found, unit_of = units(graph)
    code = inspection_module.Code(found, [b""] * len(found), unit_of, ["weigh"] * len(found), None, {})
    monkeypatch.setattr(inspection_module, "prove_code", missing)
    (remark,) = inspect_code(graph, code, "sm_90", 132).remarks
    assert "hoisted loads are not proved: no nvdisasm" in str(remark)


# Images as an assembler might make them, for every rule


class Made:
    """A unit, and instructions for the lines of its steps."""

    def __init__(self, kernel: Kernel) -> None:
        graph = hoisting_graph(kernel, pipeline="")
        (self.unit,) = units(graph)[0]
        self.kernel = kernel
        steps = steps_of_lines(kernel, self.unit).steps
        self.lines = {getattr(s.step, "name", type(s.step).__name__.lower()): line for line, s in steps.items()}
        self.code: list[Instruction] = []

    def add(self, step: str, text: str) -> Made:
        opcode = next(word for word in text.split() if not word.startswith("@"))
        source = (("weigh.cu", 3), (f"{self.unit.entry}.cu", self.lines[step])) if step else ()
        self.code.append(Instruction(16 * len(self.code), opcode, text, source))
        return self

    def proof(self) -> UnitProof:
        return prove_unit(self.kernel, self.unit, EntryFacts(32, instructions=tuple(self.code)))


LOADS = "LDG.E R2, [R4]"
STORES = "STG.E [R4], R2"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    def make(**options: bool) -> Made:
        return Made(weigh_kernel(tmp_path, PLAIN, all_steps(**options)))

    return make


def codes(proof: UnitProof) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.severity, finding.phase) for finding in proof.findings]


def good(image: Made, *, skip: str = "") -> Made:
    for step, text in (
        ("load", LOADS),
        ("wait", "ACQBULK"),
        ("multiply", LOADS),
        ("trigger", "PREEXIT"),
        ("store", STORES),
        ("", "EXIT"),
    ):
        if step != skip:
            image.add(step, text)
    return image


def test_an_image_that_keeps_everything(made: Callable[..., Made]) -> None:
    assert codes(good(made()).proof()) == []


def test_no_wait(made: Callable[..., Made]) -> None:
    proof = good(made(), skip="wait").proof()
    assert codes(proof)[0] == ("S1", "race", "")
    assert proof.verdict == "race"


def test_a_load_that_was_moved_above_its_wait(made: Callable[..., Made]) -> None:
    proof = made().add("load", LOADS).add("multiply", LOADS).add("wait", "ACQBULK")
    proof = proof.add("trigger", "PREEXIT").add("store", STORES).add("", "EXIT").proof()
    assert codes(proof) == [("S2", "race", "multiply")]
    assert "executes LDG.E R2, [R4] at 0x0010 before it" in str(proof.races[0])
    assert [p.verdict for p in proof.phases] == ["kept", "raced", "kept"]


def test_a_store_that_was_moved_above_its_wait(made: Callable[..., Made]) -> None:
    proof = made().add("load", LOADS).add("store", STORES).add("wait", "ACQBULK").add("trigger", "PREEXIT").proof()
    assert ("S2", "race", "store") in codes(proof)


def test_a_wait_that_some_threads_pass(made: Callable[..., Made]) -> None:
    proof = made().add("load", LOADS).add("wait", "@P0 ACQBULK").add("multiply", LOADS)
    proof = proof.add("trigger", "PREEXIT").add("store", STORES).add("", "EXIT").proof()
    assert [code for code, severity, _ in codes(proof) if severity == "race"] == ["S8", "S2", "S2", "S6"]


def test_a_hoist_that_is_lost_in_part(made: Callable[..., Made]) -> None:
    proof = made().add("load", LOADS).add("wait", "ACQBULK").add("load", LOADS).add("multiply", LOADS)
    proof = proof.add("trigger", "PREEXIT").add("store", STORES).add("", "EXIT").proof()
    assert codes(proof) == [("S3", "lost", "load")]
    assert "1 of its 2 loads" in proof.lost[0].message
    assert proof.phases[0].verdict == "lost"


def test_bulk_copies_are_loads(made: Callable[..., Made]) -> None:
    image = made().add("wait", "ACQBULK").add("load", "UBLKCP.S.G [UR4], [UR6], UR8").add("multiply", LOADS)
    image.add("trigger", "PREEXIT").add("store", "UBLKCP.G.S [UR4], [UR6], UR8").add("", "EXIT")
    assert codes(image.proof()) == [("S3", "lost", "load")]


def test_a_store_that_was_sunk_below_the_trigger(tmp_path: Path) -> None:
    load, wait, multiply, _, store = all_steps()
    for fenced, severity in ((False, "lost"), (True, "race")):
        kernel = weigh_kernel(tmp_path, PLAIN, (load, wait, multiply, store, Trigger(fenced)))
        image = Made(kernel).add("load", LOADS).add("wait", "ACQBULK").add("multiply", LOADS)
        image.add("trigger", "PREEXIT").add("store", STORES).add("", "EXIT")
        assert codes(image.proof()) == [("S5", severity, "store")]


def test_a_trigger_above_the_wait(made: Callable[..., Made]) -> None:
    image = made().add("load", LOADS).add("trigger", "PREEXIT").add("wait", "ACQBULK").add("multiply", LOADS)
    assert codes(image.add("store", STORES).add("", "EXIT").proof()) == [("S6", "race", "")]
    first = made(trigger_first=True).add("trigger", "PREEXIT").add("load", LOADS).add("wait", "ACQBULK")
    assert codes(first.add("multiply", LOADS).add("store", STORES).add("", "EXIT").proof()) == []


def test_a_trigger_that_nobody_asked_for(tmp_path: Path) -> None:
    load, wait, multiply, _, store = all_steps()
    image = Made(weigh_kernel(tmp_path, PLAIN, (load, wait, multiply, store)))
    image.add("load", LOADS).add("load", "PREEXIT").add("wait", "ACQBULK").add("multiply", LOADS)
    assert codes(image.add("store", STORES).add("", "EXIT").proof()) == [("S6", "race", "")]


def test_no_trigger(made: Callable[..., Made]) -> None:
    assert codes(good(made(), skip="trigger").proof()) == [("S7", "lost", "")]


def test_a_thread_that_ends_without_a_wait(made: Callable[..., Made]) -> None:
    assert ("S8", "race", "") in codes(good(made().add("load", "@P0 EXIT")).proof())


def test_a_unit_whose_entry_lacks_a_step(tmp_path: Path) -> None:
    kernel = weigh_kernel(tmp_path, PLAIN, all_steps())
    unit = Made(kernel).unit
    assert isinstance(unit.source, Source)
    broken = Unit(unit.entry, replace(unit.source, text=unit.source.text.replace("    wait();", "")), (), unit.launch)
    with pytest.raises(InternalError, match="has no line for role 'all', step 2"):
        steps_of_lines(kernel, broken)


# Where lines are wrong, as ptxas leaves them where it merges code

W_AT, X_AT = "0x210", "0x218"  # of the first two parameters on sm_90


def addressed(image: Made, step: str, constant: str) -> Made:
    """A load through a parameter, whose address is computed as usual."""
    image.add("", f"MOV R8, c[0x0][{constant}]").add("", "S2R R5, SR_TID.X")
    return image.add("", "IMAD.WIDE R4, R5.reuse, 0x4, R8").add(step, "@!P0 LDG.E R2, desc[UR6][R4.64+0x10]")


def rest(image: Made) -> UnitProof:
    image.add("trigger", "PREEXIT").add("store", STORES).add("", "EXIT")
    return prove_unit(image.kernel, image.unit, EntryFacts(32, constant_bytes=552, instructions=tuple(image.code)))


def test_a_load_belongs_to_the_phase_that_reads_there(made: Callable[..., Made]) -> None:
    # The first load has the line of the phase after the wait, but reads the weights.
    image = addressed(made(), "multiply", W_AT).add("wait", "ACQBULK")
    proof = rest(addressed(image, "multiply", X_AT))
    assert codes(proof) == []
    assert [(p.phase, p.above, p.below) for p in proof.phases] == [("load", 1, 0), ("multiply", 0, 1), ("store", 0, 0)]


def test_a_load_that_reads_what_is_late_is_a_race_whatever_its_line(made: Callable[..., Made]) -> None:
    image = addressed(addressed(made(), "load", W_AT), "load", X_AT).add("wait", "ACQBULK")
    assert codes(rest(addressed(image, "multiply", X_AT))) == [("S2", "race", "multiply")]


def test_a_load_that_both_phases_may_do_is_no_certain_race(tmp_path: Path) -> None:
    load, wait, multiply, *others = all_steps()
    assert isinstance(multiply, Phase)
    both = replace(multiply, reads=(*multiply.reads, Access("w")))
    for opcode, severity in (("LDG.E", "lost"), ("LDG.E.CONSTANT", "race")):
        made = Made(weigh_kernel(tmp_path, PLAIN, (load, wait, both, *others)))
        image = addressed(made, "load", W_AT).add("multiply", f"{opcode} R2, desc[UR6][R4.64]").add("wait", "ACQBULK")
        found = codes(rest(addressed(image, "multiply", X_AT)))
        assert ("S2", severity, "multiply") in found


def test_addresses_are_followed_through_loops_and_predicates(tmp_path: Path) -> None:
    image = Made(weigh_kernel(tmp_path, PLAIN, all_steps()))
    image.add("", "ULDC.64 UR4, c[0x0][0x218]").add("", "IADD3 R4, P3, R14, UR4, RZ").add(
        "", "@P0 MOV R4, c[0x0][0x210]"
    )
    image.add("", "LDG.E.64 R20, desc[UR6][R8.64]").add("", "IADD3 R4, P0, R4, R20, RZ").add("", "LDG.E R2, [R4.64]")
    facts = EntryFacts(32, constant_bytes=552, instructions=tuple(image.code))
    provenance = Provenance(facts, image.unit.slots)
    assert provenance.parameters(5) == {"w", "x"}
    assert provenance.parameters(3) == frozenset()  # R8 comes from nowhere
    later = EntryFacts(32, constant_bytes=0x380 + 24, instructions=tuple(image.code))
    assert Provenance(later, image.unit.slots).parameters(5) == frozenset()
