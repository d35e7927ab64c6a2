"""Checks and delays in texts: threads do the same, all is counted, and a wrong summary is seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ptx import AccessSummary, parse_module, summarise
from forerun.ptx import instrument as instruments
from forerun.ptx.cfg import control_flow
from forerun.ptx.check_table import Block, Instrumented, Root, TableReport
from forerun.ptx.delays import DELAY, PLACES, Place, Sleepers, delay_word, delayed
from forerun.ptx.instrument import TABLE, instrument
from forerun.ptx.syntax import Function
from forerun.runtime.toolchain import Source, compile_unit, missing_toolchain
from forerun.runtime.toolchain.image import facts_of_image
from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.ptxas import assemble
from forerun.support.diagnostics import Unsupported
from tests.kernels.cuda_cases import Case, small_cases
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import unit_of
from tests.ptx.running import SHARED, AnyMemory, RunningThread, threads_of
from tests.ptx.test_rewrite import HEAD, programs_with_loads
from tests.ptx.texts import DATA
from tests.strategies import portion

PARAMETERS = {"a": 0x7F0000001000, "b": 0x7E0000000100, "n": 7}
ALL = {Root(name): Block(0, (1 << 64) - 1) for name in PARAMETERS}
WAIT = "\tgriddepcontrol.wait;\n"
PLACE = 0x600000000000


def with_wait(text: str, at: int) -> str:
    """A program with a wait before one of its lines."""
    head, body = text.split("setp.eq.u32 %p1, %r2, 0;\n")
    lines = body.splitlines(keepends=True)
    lines.insert(1 + at % (len(lines) - 1), WAIT)
    return f"{head}setp.eq.u32 %p1, %r2, 0;\n{''.join(lines)}"


def run(
    text: str, more: Mapping[str, int] | None = None, memory: AnyMemory | None = None, **variables: int
) -> list[RunningThread]:
    flow = control_flow(parse_module(text).entry("k"))
    return threads_of(flow, {**PARAMETERS, **(more or {})}, memory or AnyMemory(), variables)


def checked(
    one: Instrumented, blocks: Mapping[Root, Block], **variables: int
) -> tuple[list[RunningThread], TableReport]:
    memory = AnyMemory()
    table = one.table(blocks)
    assert len(table) == one.table_bytes
    for at, byte in enumerate(table):
        memory.bytes[PLACE + at] = byte
    threads = run(one.text, {TABLE: PLACE}, memory, **variables)
    found = bytes(memory.bytes[PLACE + at] for at in range(one.table_bytes))
    return threads, one.report(found)


def own(thread: RunningThread) -> list[tuple[str, int, bool]]:
    """The program's own accesses: those that are not to the table."""
    return [(i.opcode, at, waited) for i, at, waited in thread.accessed if not PLACE <= at < PLACE + (1 << 20)]


@portion(25)
@given(programs_with_loads(), st.integers(0, 99), st.integers(0, 99), st.integers(0, 200), st.integers(0, 200))
def test_threads_do_the_same_and_all_is_counted(text: str, at: int, begin: int, size: int, other: int) -> None:
    text = with_wait(text, at)
    one = instrument(text, "k")
    before = run(text)
    after, report = checked(one, ALL)
    assert [own(thread) for thread in after] == [own(thread) for thread in before]
    lines = Counter(instruction.line for thread in before for instruction, _, _ in thread.accessed)
    assert report.executed == tuple(lines[access.line] for access in one.sites)
    assert {access.index for access in one.sites} == {a.index for a in summarise_text(text).global_accesses}
    assert report.counted == {"outside": 0, "wrong side": 0}
    # What lies outside of smaller blocks is exactly what the threads access there.
    blocks = {
        Root("a"): Block(PARAMETERS["a"] + begin, size),
        Root("b"): Block(PARAMETERS["b"] - begin, other),
    }
    _, report = checked(one, blocks)
    claims = {access.line: access for access in one.sites}
    outside = 0
    for thread in before:
        for instruction, address, _ in thread.accessed:
            roots = claims[instruction.line].roots
            inside = (blocks[Root(root)] for root in roots & {"a", "b"})
            is_inside = any(b.address <= address and address + 4 <= b.address + b.size for b in inside)
            outside += not is_inside and roots <= {"a", "b"}
    assert report.counted["outside"] == outside
    assert len(report.first) == min(outside, 4)
    event(f"{'some' if outside else 'none'} outside, {'some' if one.unclaimed else 'none'} without a claim")


def summarise_text(text: str) -> AccessSummary:
    return summarise(parse_module(text).entry("k"))


def test_the_first_ones_are_told() -> None:
    text = HEAD + "@%p1 st.global.u32 [%rd5+16], %r1;\nst.global.u32 [%rd4], %r1;\nret;\n}\n"
    one = instrument(text, "k")
    _, report = checked(one, {Root("a"): Block(PARAMETERS["a"], 16), Root("b"): Block(PARAMETERS["b"], 20)})
    # Threads 0 and 1 of two CTAs store to b, of which the fifth word is inside.
    assert report.executed == (4, 8)
    assert report.counted == {"outside": 2, "wrong side": 0}
    place = f"before the wait, address {PARAMETERS['b'] + 20:#x}"
    assert [str(one) for one in report.first] == [
        f"outside: line 13: @%p1 write global 4 bytes at b + 4*%tid.x+16, {place}"
    ] * 2


def test_a_pointer_without_a_block_points_nowhere() -> None:
    one = instrument(HEAD + "ld.global.u32 %r2, [%rd4];\nret;\n}\n", "k")
    assert checked(one, {})[1].counted["outside"] == 8
    whole = {Root("a"): Block(PARAMETERS["a"], 15)}  # the last of four words is cut
    assert checked(one, whole)[1].counted["outside"] == 2


def believed(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Let the summary say something that is not so."""

    def wrong(function: Function, flow: object = None) -> AccessSummary:
        found = summarise(function)
        return replace(found, accesses=tuple(replace(one, **fields) for one in found.accesses))  # type: ignore[arg-type]

    monkeypatch.setattr(instruments, "summarise", wrong)


@pytest.mark.parametrize("wait", ["", "@%p1 griddepcontrol.wait;", "griddepcontrol.wait;"])
def test_a_wrong_side_is_seen(monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    believed(monkeypatch, after_wait=True)
    one = instrument(f"{HEAD}{wait}\nld.global.u32 %r2, [%rd4];\nret;\n}}\n", "k")
    expected = {"": 8, "@": 4, "g": 0}[wait[:1]]
    report = checked(one, ALL)[1]
    assert report.counted == {"outside": 0, "wrong side": expected}
    assert len(report.first) == min(expected, 4)


def test_a_wrong_parameter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    believed(monkeypatch, parameter="b", roots=frozenset({"b"}))
    one = instrument(HEAD + "ld.global.u32 %r2, [%rd4];\nret;\n}\n", "k")
    blocks = {Root(name): Block(PARAMETERS[name], 64) for name in "ab"}
    assert checked(one, blocks)[1].counted == {"outside": 8, "wrong side": 0}


def test_variables_shared_memory_and_what_is_not_known() -> None:
    head = HEAD.replace(".visible", ".global .align 4 .b8 table[8] = {1};\n.visible", 1)
    lines = [
        "mov.u64 %rd6, table;", "ld.global.u32 %r3, [%rd6+4];", "ld.global.u32 %r3, [table+8];",
        "ld.u32 %r2, [%rd2+4096];", "ld.global.u64 %rd7, [%rd1];", "ld.global.u32 %r2, [%rd7];",
        "prefetch.global.L2 [%rd7];", "ret;", "}",
    ]  # fmt: skip
    one = instrument(head + "\n".join(lines) + "\n", "k")
    assert [sorted(access.roots) for access in one.sites] == [["&table"], ["&table"], ["b"], ["a"], ["?"]]
    assert one.unclaimed == 1
    blocks = {Root("a"): Block(PARAMETERS["a"], 8), Root("b"): Block(PARAMETERS["b"], 8)}
    assert run_with_shared(one, blocks, PARAMETERS["b"]).counted["outside"] == 16
    assert run_with_shared(one, blocks, SHARED.start).counted["outside"] == 8


def run_with_shared(one: Instrumented, blocks: Mapping[Root, Block], b: int) -> TableReport:
    memory = AnyMemory()
    memory.bytes.update(zip(range(PLACE, PLACE + one.table_bytes), one.table(blocks), strict=True))
    flow = control_flow(parse_module(one.text).entry("k"))
    threads_of(flow, {**PARAMETERS, "b": b, TABLE: PLACE}, memory, {"table": 0x7D0000000000})
    return one.report(bytes(memory.bytes[PLACE + at] for at in range(one.table_bytes)))


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        ("", [16] * 4),
        (", 8", [8] * 4),
        (", 0", []),
        (", %r4", [0, 4, 8, 12]),
        (", %p1", [0, 0, 16, 16]),
        (", !%p1", [16, 16, 0, 0]),
        (", %r4, %rd4", [0, 4, 8, 12]),
        (", %rd4", [16] * 4),
    ],
)
@pytest.mark.parametrize("is_scoped", [False, True])
def test_what_a_copy_reads_of_its_source(limit: str, sizes: list[int], is_scoped: bool) -> None:
    """A source size of 0 reads nothing, wherever the address is."""
    hint = ".L2::cache_hint" if "%rd4" in limit else ""
    copy = f"cp.async.ca.shared.global{hint} [{SHARED.start}], [%rd4], 16{limit};"
    if is_scoped:  # names of an inner scope hide those outside
        inner = "shl.b32 %r4, %r1, 2;\nsetp.lt.u32 %p1, %r1, 2;"
        copy = f"{{ .reg .b32 %r4; .reg .pred %p1; {inner}\n{copy} }}"
    text = f"{HEAD}shl.b32 %r4, %r1, 2;\n{copy}\nret;\n}}\n"
    one = instrument(text, "k")
    assert len(one.sites) == bool(sizes)
    for whole in (0, 10, 24):
        _, report = checked(one, {Root("a"): Block(PARAMETERS["a"], whole)})
        # Two CTAs, of whose threads each copies what begins at its own word.
        assert report.executed == ((2 * sum(map(bool, sizes)),) if sizes else ())
        outside = [size for number, size in enumerate(sizes) if size and 4 * number + size > whole]
        assert report.counted["outside"] == 2 * len(outside)


def test_copies_of_a_compiler_are_checked_by_their_source_sizes() -> None:
    text = DATA["triton_persistent_wgmma"]
    (entry,) = parse_module(text).entries
    limits = re.findall(r"cp\.async\.cg.* 0x10, (%r\d+);", text)
    assert len(limits) > 10
    assert re.findall(r"cvt\.u64\.u32 %check_n, (%r\d+);", instrument(text, entry.name).text) == limits


@pytest.mark.parametrize(
    "line",
    [
        "call helper, ();",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd4], %r2, [%r3];",
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd4, {%r2}], [%r3];",
        "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8}, [%rd4];",
    ],
)
def test_what_no_thread_names_the_bytes_of(line: str) -> None:
    with pytest.raises(Unsupported, match=r"line 13: .* does not say which bytes a thread accesses"):
        instrument(f"{HEAD}{line}\nret;\n}}\n", "k")


def test_kernels_that_are_not_there() -> None:
    for change in (instrument, delayed):
        with pytest.raises(KeyError, match="no kernel 'other'"):
            change(HEAD + "ret;\n}\n", "other")  # type: ignore[operator]


# Delays


@portion(25)
@given(
    programs_with_loads(),
    st.integers(0, 99),
    st.sets(st.sampled_from(PLACES)),
    st.integers(0, (1 << 32) - 1),
    st.sampled_from(get_args(Sleepers)),
)
def test_delays_change_nothing(text: str, at: int, places: set[Place], seed: int, sleepers: Sleepers) -> None:
    text = with_wait(text, at)
    after = run(delayed(text, "k", places), {DELAY: delay_word(seed, 500, 0.5, sleepers)})
    assert [own(thread) for thread in after] == [own(thread) for thread in run(text)]
    event(f"{'some' if any(thread.sleeps for thread in after) else 'none'} sleep")


ORDER = "griddepcontrol.launch_dependents;\ngriddepcontrol.wait;\nst.global.u32 [%rd4], %r1;\nret;\n}\n"


@pytest.mark.parametrize(
    ("places", "sleeps"), [(PLACES, 4), (("store",), 1), (("wait",), 1), (("trigger",), 2), ((), 0)]
)
def test_where_delays_are(places: tuple[Place, ...], sleeps: int) -> None:
    everywhere = run(delayed(HEAD + ORDER, "k", places), {DELAY: delay_word(1, 700, 1)})
    assert [thread.sleeps for thread in everywhere] == [[700] * sleeps] * 8


def test_a_share_of_the_warps_sleeps() -> None:
    text = delayed(HEAD + ORDER, "k", ["store"])
    for share in (0.1, 0.25, 0.5, 1):
        counts = [len(one.sleeps) for seed in range(50) for one in run(text, {DELAY: delay_word(seed, 9, share)})]
        assert sum(counts) / len(counts) == pytest.approx(share, abs=0.12)
    assert not any(one.sleeps != [0] and one.sleeps for one in run(text, {DELAY: delay_word(5, 0, 1)}))


def sleeping_ctas(word: int, ctas: int) -> set[int]:
    """The CTAs that sleep: all their threads at all places, and no thread of another anywhere."""
    flow = control_flow(parse_module(delayed(HEAD + ORDER, "k")).entry("k"))
    threads = threads_of(flow, {**PARAMETERS, DELAY: word}, AnyMemory(), ctas=ctas, threads=2)
    whole = {cta for cta in range(ctas) if [700] * 4 in (one.sleeps for one in threads[2 * cta : 2 * cta + 2])}
    for number, one in enumerate(threads):
        assert one.sleeps == [700 * (number // 2 in whole)] * 4
    return whole


def test_whole_ctas_sleep() -> None:
    for share in (0.05, 0.5, 1):
        counts = [len(sleeping_ctas(delay_word(seed, 700, share, "CTAs"), 16)) for seed in range(20)]
        assert sum(counts) / 20 / 16 == pytest.approx(share, abs=0.12)
        assert share == 1 or len(set(counts)) > 1


@pytest.mark.parametrize("ctas", [1, 2, 3, 16])
def test_the_first_and_the_last_cta_sleep(ctas: int) -> None:
    assert sleeping_ctas(delay_word(7, 700, 0.1, "end CTAs"), ctas) == {0, ctas - 1}


# The assembler

MISSING = missing_toolchain()


def assembled(text: str) -> bytes:
    target = parse_module(text).target[0]
    return assemble(text, Source("k", ""), target, require_compiler().ptxas.path, ())[0]


def assert_assembles(text: str) -> None:
    for entry in parse_module(text).entries:
        facts = facts_of_image(assembled(delayed(text, entry.name)), entry.name)
        assert facts is not None
        kinds = [one.opcode.partition(".")[0] for one in facts.instructions]
        stores = [at for at, kind in enumerate(kinds) if kind in ("STG", "ATOMG", "REDG", "ACQBULK", "PREEXIT")]
        assert kinds.count("NANOSLEEP") >= len(stores)
        assert not stores or "NANOSLEEP" in kinds[: stores[0]]
        try:
            one = instrument(text, entry.name)
        except Unsupported:
            continue
        assert len(one.sites) == sum(a.kind != "prefetch" for a in summarise(entry).global_accesses)
        assert assembled(one.text)


@pytest.mark.parametrize("text", DATA.values(), ids=DATA)
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_texts_of_compilers(text: str) -> None:
    assert_assembles(re.sub(r"^\.version 9\.[1-4]$", ".version 9.0", text, flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("case", [*small_cases(), *few_cases()], ids=str)
def test_texts_of_our_kernels(case: Case) -> None:
    unit = unit_of(case.kernel, case.shapes, case.launch, **case.constants)
    assert isinstance(unit.source, Source)
    assert_assembles(compile_unit(unit.source, "sm_90").ptx)
