"""The litmus tests. What the rules say of each is not written here: the checker derives it (rules.py).

A late store is ``trigger, sleep, store x``: the dependents may start, then comes a long time in which a reader that
nothing holds back sees the old value. Tests whose name ends in ``w`` are wide: many CTAs of many warps instead of one
thread. docs/litmus.md says what each group is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from forerun.runtime.litmus.notation import LitmusTest, full, launch_order, programmatic
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["TESTS", "select"]

_LATE, _EARLY = "trigger, sleep, store x", "load x, wait"

_PAIR = (programmatic("A", "B"),)
_CHAIN = (programmatic("A", "B"), programmatic("B", "C"))
_THEN_FULL = (programmatic("A", "B"), full("B", "C"))
_FIRST_FULL = (full("A", "B"), programmatic("B", "C"))
_IN_ORDER = (launch_order("A", "B"),)
_JOIN = (programmatic("A", "C"), programmatic("B", "C"))
_MIXED = (full("A", "C"), programmatic("B", "C"))

_H6, _H8, _ALL = frozenset({"H6"}), frozenset({"H8"}), frozenset({"H6", "H8"})

_WIDE = 128, 256
"""CTAs and threads: three such grids are resident together on a GPU of 48 SMs or more, so that they can overlap."""

_MORE_THAN_FIT = 2048, 256
"""More CTAs than a GPU of today holds at a time, so that some have not begun when others end."""

_MANY = tuple(f"B{i}" for i in range(64))

_WAITS = (
    LitmusTest("L1", "early trigger, late store; waited read", {"A": _LATE, "B": "wait, load x"}, _PAIR),
    LitmusTest("L1b", "the same, nobody waits", {"A": _LATE, "B": "load x"}, _PAIR, controls=_ALL),
    LitmusTest("L1w", "as L1, wide", {"A": _LATE, "B": "wait, load x"}, _PAIR, *_WIDE),
    LitmusTest("L1bw", "as L1b, wide", {"A": _LATE, "B": "load x"}, _PAIR, *_WIDE, controls=_ALL),
    LitmusTest("L2", "no wait, no trigger", {"A": "sleep, store x", "B": "load x"}, _PAIR),
)

_CHAINS = (
    LitmusTest(
        "L3", "A, B never waits, C waits: programmatic", {"A": _LATE, "B": "trigger", "C": "wait, load x"}, _CHAIN
    ),
    LitmusTest(
        "L3d",
        "the same; the code of B holds a wait that is not executed",
        {"A": _LATE, "B": "dormant wait, trigger", "C": "wait, load x"},
        _CHAIN,
    ),
    LitmusTest("L3n", "as L3, B without a trigger", {"A": _LATE, "B": "", "C": "wait, load x"}, _CHAIN),
    LitmusTest("L4", "as L3, B to C full", {"A": _LATE, "B": "trigger", "C": "wait, load x"}, _THEN_FULL),
    LitmusTest(
        "L4d", "as L3d, B to C full", {"A": _LATE, "B": "dormant wait, trigger", "C": "wait, load x"}, _THEN_FULL
    ),
    LitmusTest("L4b", "B waits; B to C full", {"A": _LATE, "B": "trigger, wait", "C": "load x"}, _THEN_FULL),
    LitmusTest("L4c", "B waits late, C waits", {"A": _LATE, "B": "trigger, wait", "C": "wait, load x"}, _CHAIN),
    LitmusTest(
        "L14",
        "B never waits, but A to C is programmatic, too",
        {"A": _LATE, "B": "trigger", "C": "wait, load x"},
        (*_CHAIN, programmatic("A", "C")),
    ),
)

_STARTS = (
    LitmusTest(
        "L5",
        "A to B full, B triggers, C reads A's before its wait",
        {"A": "sleep, store x", "B": "trigger, sleep", "C": _EARLY},
        _FIRST_FULL,
    ),
    LitmusTest(
        "L5b",
        "B waits, then triggers; C reads A's before its wait",
        {"A": _LATE, "B": "wait, trigger, sleep", "C": _EARLY},
        _CHAIN,
    ),
    LitmusTest(
        "L5c",
        "B triggers, then waits; C reads A's before its wait",
        {"A": _LATE, "B": "trigger, wait, sleep", "C": _EARLY},
        _CHAIN,
        controls=_H6,
    ),
    LitmusTest(
        "L5d",
        "one warp of B waits, another triggers",
        {"A": _LATE, "B": "wait | trigger, sleep", "C": _EARLY},
        _CHAIN,
        threads=32,
    ),
    LitmusTest(
        "L5e",
        "the same with a CTA barrier in between",
        {"A": _LATE, "B": "wait, barrier | barrier, trigger, sleep", "C": _EARLY},
        _CHAIN,
        threads=32,
    ),
    LitmusTest(
        "L5w",
        "as L5, wide, triggers spread over time",
        {"A": "stagger, store x", "B": "stagger, trigger, sleep", "C": _EARLY},
        _FIRST_FULL,
        *_WIDE,
    ),
    LitmusTest(
        "L5bw",
        "as L5b, wide, triggers spread over time",
        {"A": _LATE, "B": "wait, stagger, trigger, sleep", "C": _EARLY},
        _CHAIN,
        *_WIDE,
    ),
    LitmusTest(
        "L5cw", "as L5c, wide", {"A": _LATE, "B": "trigger, wait, sleep", "C": _EARLY}, _CHAIN, *_WIDE, controls=_H6
    ),
    LitmusTest(
        "L5v",
        "as L5b, more CTAs than fit",
        {"A": "trigger, stagger, store x", "B": "wait, trigger", "C": _EARLY},
        _CHAIN,
        *_MORE_THAN_FIT,
    ),
    LitmusTest(
        "L5x",
        "as L5, wide; the SMs have read the old x before",
        {"P": "load x", "A": "sleep, store x", "B": "trigger, sleep", "C": _EARLY},
        (full("P", "A"), *_FIRST_FULL),
        *_WIDE,
        watch=("C x",),
    ),
)

_WARPS = (
    LitmusTest("L6", "one warp waits, another reads", {"A": _LATE, "B": "wait | load x"}, _PAIR, threads=32),
    LitmusTest(
        "L6b",
        "the same with a CTA barrier in between",
        {"A": _LATE, "B": "wait, barrier | barrier, load x"},
        _PAIR,
        threads=32,
    ),
    LitmusTest(
        "L18",
        "one warp triggers, another stores late; no wait",
        {"A": "trigger | sleep, store x", "B": "load x"},
        _PAIR,
        threads=32,
    ),
)

_FENCES = (
    LitmusTest(
        "L7",
        "store, fenced trigger; unwaited read",
        {"A": "store x, barrier, fenced trigger, sleep", "B": "load x"},
        _PAIR,
    ),
    LitmusTest("L7b", "the same without the fence", {"A": "store x, trigger, sleep", "B": "load x"}, _PAIR),
    LitmusTest(
        "L7w",
        "stores of many warps, barrier, fenced trigger",
        {"A": "stagger, store x, barrier, fenced trigger, sleep", "B": "load x"},
        _PAIR,
        *_WIDE,
    ),
    LitmusTest(
        "L7bw",
        "the same with a barrier, but no fence",
        {"A": "stagger, store x, barrier, trigger, sleep", "B": "load x"},
        _PAIR,
        *_WIDE,
    ),
    LitmusTest(
        "L7cw",
        "the same with neither",
        {"A": "stagger, store x, trigger, sleep", "B": "load x"},
        _PAIR,
        *_WIDE,
        controls=_H8,
    ),
    LitmusTest(
        "L7y",
        "two stores to different lines, fenced trigger",
        {"A": "store x, store y, barrier, fenced trigger, sleep", "B": "load y, load x"},
        _PAIR,
        *_WIDE,
    ),
)

_HOST = (
    LitmusTest(
        "L8", "B, the sink, never waits; the host reads", {"A": _LATE, "B": "trigger"}, _PAIR, watch=("host x",)
    ),
    LitmusTest(
        "L8d",
        "the same; the code of B holds a wait that is not executed",
        {"A": _LATE, "B": "dormant wait, trigger"},
        _PAIR,
        watch=("host x",),
    ),
    LitmusTest("L8b", "the sink waits", {"A": _LATE, "B": "trigger, wait"}, _PAIR, watch=("host x",)),
)

_OTHER_EDGES = (
    LitmusTest("L9", "launch-order edge; waited read", {"A": "sleep, store x", "B": "wait, load x"}, _IN_ORDER),
    LitmusTest(
        "L9b", "launch-order edge; nobody waits", {"A": "sleep, store x", "B": "load x"}, _IN_ORDER, controls=_H6
    ),
    LitmusTest(
        "L13",
        "full and programmatic in-edges; waited reads",
        {"A": "sleep, store x", "B": "trigger, sleep, store y", "C": "wait, load x, load y"},
        _MIXED,
    ),
    LitmusTest(
        "L13b",
        "the same; what is behind the full one is read unwaited",
        {"A": "sleep, store x", "B": "trigger, sleep, store y", "C": "load x, wait, load y"},
        _MIXED,
    ),
    LitmusTest(
        "L13c",
        "full edge beside a programmatic chain; C reads A's unwaited",
        {"A": _LATE, "B": "trigger, wait", "C": _EARLY},
        (*_CHAIN, full("A", "C")),
    ),
    LitmusTest(
        "L13w", "as L13c, wide", {"A": _LATE, "B": "trigger, wait", "C": _EARLY}, (*_CHAIN, full("A", "C")), *_WIDE
    ),
    LitmusTest(
        "L15",
        "two programmatic in-edges; waited reads",
        {"A": _LATE, "B": "trigger, sleep, store y", "C": "wait, load x, load y"},
        _JOIN,
    ),
)

_COPIES = (
    LitmusTest("L10", "waited bulk copy", {"A": _LATE, "B": "wait, copy x"}, _PAIR, threads=32),
    LitmusTest("L10b", "unwaited bulk copy", {"A": _LATE, "B": "copy x"}, _PAIR, threads=32),
    LitmusTest("L10w", "as L10, wide", {"A": _LATE, "B": "wait, copy x"}, _PAIR, *_WIDE),
    LitmusTest(
        "L10c",
        "as L5b, C reads by bulk copy",
        {"A": _LATE, "B": "wait, trigger, sleep", "C": "copy x, wait"},
        _CHAIN,
        *_WIDE,
    ),
    LitmusTest(
        "L10d",
        "as L7w, B reads by bulk copy",
        {"A": "stagger, store x, barrier, fenced trigger, sleep", "B": "copy x"},
        _PAIR,
        *_WIDE,
    ),
)

_WRITES = (
    LitmusTest(
        "L11", "late load, unwaited early store", {"A": "trigger, sleep, load x", "B": "store x"}, _PAIR, controls=_H6
    ),
    LitmusTest("L11b", "late load, waited store", {"A": "trigger, sleep, load x", "B": "wait, store x"}, _PAIR),
    LitmusTest("L17", "late store, unwaited store", {"A": _LATE, "B": "store x"}, _PAIR, watch=("host x",)),
    LitmusTest("L17b", "late store, waited store", {"A": _LATE, "B": "wait, store x"}, _PAIR, watch=("host x",)),
)

_FANS = (
    LitmusTest(
        "L12",
        "one store, 64 kernels wait for it",
        {"A": _LATE, **dict.fromkeys(_MANY, "wait, load x")},
        tuple(programmatic("A", node) for node in _MANY),
    ),
    LitmusTest(
        "L12b",
        "the same, nobody waits",
        {"A": _LATE, **dict.fromkeys(_MANY, "load x")},
        tuple(programmatic("A", node) for node in _MANY),
    ),
    LitmusTest(
        "L12c",
        "as L5b, 64 kernels read A's before their waits",
        {"A": _LATE, "B": "wait, trigger, sleep", **dict.fromkeys((f"C{i}" for i in range(64)), _EARLY)},
        (programmatic("A", "B"), *(programmatic("B", f"C{i}") for i in range(64))),
    ),
    LitmusTest(
        "L12d",
        "through 64 kernels that wait",
        {"A": _LATE, **dict.fromkeys(_MANY, "trigger, wait"), "C": "wait, load x"},
        tuple(edge for node in _MANY for edge in (programmatic("A", node), programmatic(node, "C"))),
    ),
)

_FORKED = {
    "P": _LATE, "Q": "load x", "A": "trigger, wait, sleep, store y", "B": "wait, load y", "C": "load y, load x",
}  # fmt: skip
_FORKED_EDGES = (full("P", "Q"), programmatic("P", "A"), programmatic("A", "B"), full("A", "C"))
_JOINED = {**_FORKED, "D": "load x, load y"}
_JOINED_EDGES = (*_FORKED_EDGES, full("Q", "D"), full("B", "D"), full("C", "D"))

_FORKS = (
    LitmusTest(
        "L20",
        "full and programmatic edge of one source; unwaited read",
        {"A": _LATE, "B": "wait, load x", "C": "load x"},
        (programmatic("A", "B"), full("A", "C")),
    ),
    LitmusTest(
        "L20b",
        "the same, the full edge first",
        {"A": _LATE, "C": "load x", "B": "wait, load x"},
        (full("A", "C"), programmatic("A", "B")),
    ),
    LitmusTest(
        "L20c",
        "as L20, A waits after its trigger",
        {"P": _LATE, "A": "trigger, wait, sleep, store y", "B": "wait, load y", "C": "load y, load x"},
        (programmatic("P", "A"), programmatic("A", "B"), full("A", "C")),
    ),
    LitmusTest("L20d", "as L20c, two forks one after the other", _FORKED, _FORKED_EDGES),
    LitmusTest("L20e", "as L20d, and a join", _JOINED, _JOINED_EDGES),
    LitmusTest(
        "L20f",
        "as L20e, kernels behind both ends of each fork",
        {
            "P": _LATE, "Q": "trigger, load x", "R": "wait, load x", "A": "trigger, wait, sleep, store y",
            "B": "wait, load y", "E": "load y, load x", "C": "load y, load x", "D": "load x, load y",
        },
        (
            full("P", "Q"), programmatic("Q", "R"), programmatic("P", "A"), programmatic("A", "B"), full("B", "E"),
            full("A", "C"), full("R", "D"), full("E", "D"), full("C", "D"),
        ),
    ),
    LitmusTest("L20w", "as L20e, wide", _JOINED, _JOINED_EDGES, *_WIDE),
)  # fmt: skip

_LINES = (
    LitmusTest(
        "L16",
        "stores to two lines; waited reads",
        {"A": "trigger, sleep, store x, store y", "B": "wait, load y, load x"},
        _PAIR,
    ),
    LitmusTest(
        "L16b",
        "stores to two lines; sees the second, not the first",
        {"A": "trigger, sleep, store x, store y", "B": "poll y, load x"},
        _PAIR,
        given="y",
    ),
    LitmusTest(
        "L16w", "as L16, wide", {"A": "trigger, stagger, store x, store y", "B": "wait, load y, load x"}, _PAIR, *_WIDE
    ),
    LitmusTest(
        "L19",
        "the reader has x's sector in its cache from before its wait",
        {"A": _LATE, "B": "load y, wait, load x"},
        _PAIR,
        watch=("B x",),
        one_sector=True,
    ),
    LitmusTest(
        "L19w",
        "the SMs have read the old x before",
        {"P": "trigger, load x", "A": "wait, trigger, sleep, store x", "C": "wait, load x"},
        (programmatic("P", "A"), programmatic("A", "C")),
        *_WIDE,
    ),
)

_GROUPS = (_WAITS, _CHAINS, _STARTS, _WARPS, _FENCES, _HOST, _OTHER_EDGES, _COPIES, _WRITES, _FANS, _FORKS, _LINES)

TESTS: Mapping[str, LitmusTest] = MappingProxyType({test.name: test for group in _GROUPS for test in group})
"""All tests by name, in the order of the table."""


def select(names: Iterable[str]) -> tuple[LitmusTest, ...]:
    """The tests of these names, in the order of the table; all if there are none.

    Raises:
        InvalidInput: If a name is unknown.
    """
    wanted = set(names)
    for name in sorted(wanted - set(TESTS)):
        raise InvalidInput(f"no litmus test '{name}'", hint=did_you_mean(name, TESTS))
    return tuple(test for test in TESTS.values() if not wanted or test.name in wanted)
