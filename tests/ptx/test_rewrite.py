"""Waits, triggers and early loads: what threads of random programs load and store stays, and the loads are early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ptx.accesses import summarise
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.operands import Address, Register
from forerun.ptx.parser import parse_module
from forerun.ptx.printer import print_module
from forerun.ptx.rewrite import Changes, rewrite
from forerun.ptx.syntax import Declaration, Instruction, Label, Module
from forerun.support.diagnostics import Unsupported
from tests.ptx.machine import Thread, programs
from tests.ptx.texts import DATA
from tests.strategies import portion

PARAMETERS = {"a": 0x7F0000001000, "b": 0x7E0000000100, "n": 7}
BOTH = frozenset({"a", "b"})


@dataclass
class MemoryThread(Thread):
    """A thread that notes what it loads and stores. What lies at an address follows from the address."""

    loaded: set[int] = field(default_factory=set)
    stored: list[tuple[int, int]] = field(default_factory=list)
    waited_after: int | None = None
    prefetched: set[int] = field(default_factory=set)

    def address(self, operand: object) -> int:
        assert isinstance(operand, Address)
        assert isinstance(operand.base, Register)
        assert operand.offset is not None
        return (self.registers[operand.base.name] + operand.offset) % (1 << 64)

    def execute(self, one: Instruction, index: int) -> None:
        parts = one.parts
        if one.opcode == "griddepcontrol.wait":
            self.waited_after = len(self.loaded)
        elif one.base == "prefetch":
            self.prefetched.add(self.address(one.operands[0]))
        elif parts[:2] == ("ld", "global"):
            address = self.address(one.operands[1])
            self.loaded.add(address)
            self.write(one.operands[0], address * 2654435761 >> 7)
        elif parts[:2] == ("st", "global"):
            self.stored.append((self.address(one.operands[0]), self.value(one.operands[1])))
        elif one.base in ("and", "not") and parts[-1] == "pred":
            values = [self.value(operand) for operand in one.operands[1:]]
            self.write(one.operands[0], int(all(values)) if one.base == "and" else 1 - values[0])
        elif one.base == "setp" and parts[1] == "ne":
            first, second = (self.value(operand) for operand in one.operands[1:])
            self.write(one.operands[0], int(first != second))
        elif one.base != "griddepcontrol":
            super().execute(one, index)


def run(module: Module, parameters: Mapping[str, int] = PARAMETERS) -> list[MemoryThread]:
    flow = control_flow(module.entry("k"))
    special = [{"%tid.x": tid, "%ctaid.x": cta, "%ntid.x": 4} for cta in range(2) for tid in range(4)]
    threads = [MemoryThread(flow, one, parameters) for one in special]
    for thread in threads:
        thread.run(lambda *_: None)
    return threads


def printed(module: Module) -> Module:
    """The module, through its text."""
    return parse_module(print_module(module))


@st.composite
def programs_with_loads(draw: st.DrawFn) -> str:
    """A program with loads at any place of it whose addresses follow from the thread's number."""
    head, body = draw(programs()).split("setp.eq.u32 %p1, %r2, 0;\n")
    lines = body.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        guard = draw(st.sampled_from(["", "", "@%p0 ", "@!%p1 "]))
        target, offset = draw(st.sampled_from(["%r0", "%r1", "%r2"])), 16 * draw(st.integers(0, 3))
        load = f"\t{guard}ld.global.u32 {target}, [%q0+{offset}];\n"
        # An address of its own may follow from what turns of loops, and loads, have left in a register.
        index = draw(st.sampled_from(["", "", "%r0", "%r1"]))
        address = f"\tmad.wide.u32 %q0, {index}, 4, %rd0;\n" if index else ""
        lines.insert(draw(st.integers(0, len(lines) - 2)), address + load)
    own = "\t.reg .b64 %q<1>; mad.wide.u32 %q0, %r1, 4, %rd0;\n"
    return f"{head}setp.eq.u32 %p1, %r2, 0;\n{own}{''.join(lines)}"


@portion(50)
@given(programs_with_loads(), st.sampled_from([BOTH, frozenset({"a"}), frozenset[str]()]))
def test_threads_do_the_same(text: str, ahead: frozenset[str]) -> None:
    before = parse_module(text)
    after = printed(rewrite(before, "k", Changes(ahead=ahead)))
    summary = summarise(after.entry("k"))
    early = [access for access in summary.global_accesses if not access.after_wait]
    assert summary.always_waits
    assert {access.kind for access in early} <= {"read"}
    assert {access.parameter for access in early} <= ahead
    moved = 0
    for old, new in zip(run(before), run(after), strict=True):
        assert new.stored == old.stored
        assert new.loaded <= old.loaded
        assert new.waited_after is not None
        moved += new.waited_after
    event(f"{'some' if moved else 'no'} loads are early")


@portion(50)
@given(programs_with_loads(), st.integers(0, 2))
def test_what_is_prefetched_is_loaded_later(text: str, ctas: int) -> None:
    before = parse_module(text)
    after = printed(rewrite(before, "k", Changes(ahead=BOTH, prefetching=ctas)))
    summary = summarise(after.entry("k"))
    assert summary.always_waits
    assert {access.kind for access in summary.global_accesses if not access.after_wait} <= {"prefetch"}
    for old, new in zip(run(before), run(after), strict=True):
        assert (new.stored, new.loaded, new.waited_after) == (old.stored, old.loaded, 0)
        assert new.prefetched <= (new.loaded if new.special["%ctaid.x"] < ctas else set())
    some = any(thread.prefetched for thread in run(after))
    event(f"{'some' if some else 'nothing'} is prefetched by {ctas} CTAs")


HEAD = """.version 9.0
.target sm_90a
.visible .entry k(.param .u64 .ptr .global a, .param .u64 .ptr .global b, .param .u32 n)
{
.reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<9>;
ld.param.u64 %rd1, [a];
ld.param.u64 %rd2, [b];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd3, %r1, 4;
add.s64 %rd4, %rd1, %rd3;
add.s64 %rd5, %rd2, %rd3;
setp.lt.u32 %p1, %r1, 2;
"""


def module(*lines: str) -> Module:
    return parse_module(HEAD + "\n".join(lines) + "\nret;\n}\n")


def early(after: Module) -> list[str]:
    """The opcodes of what memory is accessed before the wait."""
    return [one.opcode for one in summarise(after.entry("k")).global_accesses if not one.after_wait]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("ld.global.u32 %r2, [%rd4];",), ["ld.global.u32"]),
        (("ld.global.nc.L1::no_allocate.v2.b32 {%r2, %r3}, [%rd4+8];",), ["ld.global.L1::no_allocate.v2.b32"]),
        (("@%p1 ld.global.u32 %r2, [%rd4];",), ["ld.global.u32"]),
        # An index that is loaded: what is loaded with it stays.
        (
            ("ld.global.u32 %r2, [%rd4];", "mad.wide.u32 %rd6, %r2, 4, %rd1;", "ld.global.u32 %r3, [%rd6];"),
            ["ld.global.u32"],
        ),
        # Not every thread comes there.
        (("@%p1 bra $L;", "ld.global.u32 %r2, [%rd4];", "$L:"), []),
        (("call f;", "ld.global.u32 %r2, [%rd4];"), []),
        (("ld.global.u32 %r2, [%rd4];", "call f;"), ["ld.global.u32"]),
        # An irreducible cycle: it is entered in two places, so it is not a loop.
        (
            (
                *("mov.u32 %r3, 0;", "@%p1 bra $M;", "$L:", "add.s32 %r3, %r3, 1;", "$M:"),
                *("ld.global.u32 %r2, [%rd4];", "setp.lt.s32 %p2, %r3, 3;", "@%p2 bra $L;"),
            ),
            [],
        ),
        # It may wait for others, or be more than a load.
        (("ld.volatile.global.u32 %r2, [%rd4];",), []),
        (("ld.acquire.gpu.global.u32 %r2, [%rd4];",), []),
        (("atom.global.add.u32 %r2, [%rd4], 1;",), []),
        # What tells where is not the same earlier: turns that come before, what is carried, a clock.
        (
            (
                *("mov.u32 %r4, 0;", "$L:", "add.s32 %r4, %r4, 1;", "setp.lt.s32 %p2, %r4, 5;", "@%p2 bra $L;"),
                *("mad.wide.u32 %rd6, %r4, 4, %rd1;", "ld.global.u32 %r2, [%rd6];"),
            ),
            [],
        ),
        (
            (
                *("add.cc.u32 %r4, %r1, -1;", "addc.u32 %r5, 0, 0;", "mad.wide.u32 %rd6, %r5, 4, %rd1;"),
                "ld.global.u32 %r2, [%rd6];",
            ),
            [],
        ),
        (
            ("mov.u32 %r4, %clock;", "setp.lt.u32 %p2, %r4, 64;", "@%p2 ld.global.u32 %r2, [%rd4];"),
            [],
        ),
        # What is stored in between is not looked at here: the pass knows what the kernel writes itself.
        (("st.global.u32 [%rd5], 1;", "ld.global.u32 %r2, [%rd4];"), ["ld.global.u32"]),
    ],
)
def test_which_loads_move(lines: tuple[str, ...], expected: list[str]) -> None:
    assert early(printed(rewrite(module(*lines), "k", Changes(ahead=frozenset({"a"}))))) == expected


LOOP = (
    "mov.u32 %r4, 0;",
    "$L:",
    "@%p1 ld.global.u32 %r2, [%rd4];",
    "ld.global.u32 %r3, [%rd5];",
    "st.global.u32 [%rd5], %r2;",
    "add.s64 %rd4, %rd4, 64;",
    "add.s32 %r4, %r4, 1;",
    "setp.lt.s32 %p2, %r4, 5;",
    "@%p2 bra $L;",
)


def test_of_a_loop_the_first_turn_moves() -> None:
    before = module("mov.u32 %r2, 0;", *LOOP)
    after = printed(rewrite(before, "k", Changes(ahead=frozenset({"a"}))))
    assert early(after) == ["ld.global.u32"]
    for old, new in zip(run(before), run(after), strict=True):
        assert (new.stored, new.loaded) == (old.stored, old.loaded)
        assert new.waited_after == int(new.special["%tid.x"] < 2)


def instructions(after: Module) -> list[str]:
    flow: ControlFlow = control_flow(after.entry("k"))
    return [one.opcode for one in flow.instructions if one.base == "griddepcontrol"]


WAIT, TRIGGER = "griddepcontrol.wait", "griddepcontrol.launch_dependents"


@pytest.mark.parametrize(
    ("own", "changes", "expected"),
    [
        ((), Changes(), [TRIGGER, WAIT]),
        ((), Changes(trigger="after-wait"), [WAIT, TRIGGER]),
        ((), Changes(trigger="none"), [WAIT]),
        ((), Changes(wait=False), [TRIGGER]),
        ((f"{WAIT};",), Changes(), [TRIGGER, WAIT]),
        ((f"{WAIT};", f"{TRIGGER};"), Changes(), [TRIGGER, WAIT]),
        ((f"{WAIT};", f"{TRIGGER};"), Changes(trigger="after-wait"), [WAIT, TRIGGER]),
        ((f"{TRIGGER};", f"{WAIT};"), Changes(trigger="after-wait"), [TRIGGER, WAIT]),
        ((f"{WAIT};",), Changes(trigger="none", early=frozenset()), [WAIT]),
        ((f"{WAIT};",), Changes(trigger="none", early=frozenset({"a"})), [WAIT]),
    ],
)
def test_what_is_there_is_not_put_twice(own: tuple[str, ...], changes: Changes, expected: list[str]) -> None:
    assert instructions(printed(rewrite(module(*own), "k", changes))) == expected


def test_loads_move_ahead_of_the_kernels_own_wait() -> None:
    lines = ("ld.global.u32 %r4, [%rd4+64];", f"{WAIT};", "ld.global.u32 %r2, [%rd4];", "ld.global.u32 %r3, [%rd5];")
    before = module(*lines, "add.u32 %r2, %r2, %r4;", "st.global.u32 [%rd5], %r2;")
    after = printed(rewrite(before, "k", Changes(trigger="none", ahead=frozenset({"a"}))))
    assert instructions(after) == [WAIT]
    found = summarise(after.entry("k")).global_accesses
    assert [(one.kind, one.parameter, one.after_wait) for one in found] == [
        ("read", "a", False), ("read", "a", False), ("read", "b", True), ("write", "b", True),
    ]  # fmt: skip
    for old, new in zip(run(before), run(after), strict=True):
        assert (new.stored, new.loaded) == (old.stored, old.loaded)


def test_early_loads_of_the_author_come_behind_a_wait_that_moves() -> None:
    lines = ("ld.global.u32 %r4, [%rd4+64];", f"{WAIT};", "ld.global.u32 %r2, [%rd5];", f"{TRIGGER};")
    before = module(*lines, "add.u32 %r2, %r2, %r4;", "st.global.u32 [%rd5], %r2;")
    after = printed(rewrite(before, "k", Changes(ahead=frozenset({"b"}), early=frozenset())))
    assert instructions(after) == [TRIGGER, WAIT]
    found = summarise(after.entry("k")).global_accesses
    assert [(one.kind, one.parameter, one.after_wait) for one in found] == [
        ("read", "b", False), ("read", "a", True), ("write", "b", True),
    ]  # fmt: skip
    for old, new in zip(run(before), run(after), strict=True):
        assert (new.stored, new.loaded) == (old.stored, old.loaded)


def test_in_a_loop_the_first_turn_is_prefetched() -> None:
    before = module("mov.u32 %r2, 0;", *LOOP)
    after = printed(rewrite(before, "k", Changes(ahead=frozenset({"a"}), prefetching=1)))
    for old, new in zip(run(before), run(after), strict=True):
        assert (new.stored, new.loaded) == (old.stored, old.loaded)
        is_loading = new.special["%tid.x"] < 2 and new.special["%ctaid.x"] == 0
        assert new.prefetched == ({old.registers["%rd4"] - 5 * 64} if is_loading else set())


def test_a_wait_on_some_ways_only_is_refused() -> None:
    with pytest.raises(Unsupported, match="waits on some ways"):
        rewrite(module("@%p1 bra $L;", f"{WAIT};", "$L:"), "k", Changes())


def test_nothing_goes_through_the_read_only_path_but_tables_of_the_module() -> None:
    text = ".version 9.0\n.target sm_90\n.global .align 4 .b8 table[8] = {1};\n" + HEAD.partition("sm_90a\n")[2]
    lines = ["ld.global.nc.u32 %r2, [%rd5];", "mov.u64 %rd6, table;", "ld.global.nc.u32 %r3, [%rd6];", "ret;", "}"]
    after = rewrite(parse_module(text + "\n".join(lines) + "\n"), "k", Changes())
    found = {one.parameter: one.is_nc for one in summarise(printed(after).entry("k")).global_accesses}
    assert found == {"b": False, None: True}


@pytest.mark.parametrize("name", sorted(DATA))
def test_texts_of_compilers(name: str) -> None:
    before = parse_module(DATA[name])
    for entry in before.entries:
        if summarise(entry).waits:
            continue
        names = frozenset(one.name for one in entry.parameters or ())
        after = printed(rewrite(before, entry.name, Changes(ahead=names)))
        summary = summarise(after.entry(entry.name))
        assert summary.always_waits
        assert {access.kind for access in summary.global_accesses if not access.after_wait} <= {"read"}


@pytest.mark.parametrize("prefetching", [None, 1])
def test_a_kernel_that_was_rewritten_before_can_be_again(prefetching: int | None) -> None:
    """Names that are declared in it, between inner braces too, and labels, are not taken for what is put into it."""
    own = ("{", ".reg .b32 %ahead<3>;", "mov.u32 %ahead0, 5;", "ld.global.u32 %r2, [%rd4];", "$ahead_end:")
    before = module(*own, "st.global.u32 [%rd5], %ahead0;", "}", "st.global.u32 [%rd5], %r2;")
    changes = Changes(ahead=frozenset({"a"}), prefetching=prefetching)
    once = printed(rewrite(before, "k", changes))
    for after in (once, printed(rewrite(once, "k", changes))):
        body = after.entry("k").body or ()
        declared = [one.name for line in body if isinstance(line, Declaration) for one in line.names]
        labels = [line.name for line in body if isinstance(line, Label)]
        assert len({*declared, *labels}) == len(declared) + len(labels)
        assert [new.stored for new in run(after)] == [old.stored for old in run(before)]
