"""Wrong checkers that get conflicts, ranges of bytes or the verdict wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.semantics import races
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet
from tests.wrong.mutant import Patch, accessing, collector, meets, sweeping

__all__ = ["CONFLICT_MUTANTS"]

CONFLICT_MUTANTS, mutant = collector()


# Conflicts

mutant(
    "war-ignored",
    "reading before writing needs no order",
    sweeping(lambda a, b: meets(a, b) and (a.write or not b.write)),
)
mutant("waw-ignored", "writing twice needs no order", sweeping(lambda a, b: meets(a, b) and not (a.write and b.write)))
mutant("raw-ignored", "reading what was written needs no order", sweeping(lambda a, b: meets(a, b) and b.write))
mutant(
    "reads-conflict",
    "reading twice needs an order",
    sweeping(lambda a, b: a.allocation == b.allocation and a.bytes.overlaps(b.bytes)),
)
mutant("arena-reuse-ignored", "buffers conflict by name", sweeping(lambda a, b: meets(a, b) and a.buffer == b.buffer))
mutant(
    "allocations-conflict",
    "any two accesses of one allocation meet",
    sweeping(lambda a, b: (a.write or b.write) and a.allocation == b.allocation),
)
mutant("neighbours-only", "only adjacent nodes are compared", sweeping(near=lambda i, j: j == i + 1))
mutant("reads-hide", "a read hides earlier accesses", sweeping(kills=lambda a, b: a.bytes.covers(b.bytes)))
mutant(
    "overlap-hides",
    "a write hides all that it overlaps",
    sweeping(kills=lambda a, b: a.write and a.bytes.overlaps(b.bytes)),
)
mutant(
    "hull-hides",
    "a write of some columns hides all of its rows",
    sweeping(kills=lambda a, b: a.write and replace(a.bytes, levels=(), run=0).covers(b.bytes)),
)
mutant(
    "unknown-write-hides",
    "a write of unknown extent hides all that it may touch",
    sweeping(kills=lambda a, b: a.write and replace(a.bytes, exact=True).covers(b.bytes)),
)
mutant("any-write-hides", "a write hides all of the allocation", sweeping(kills=lambda a, b: a.write))


# Bytes


def _method(name: str, function: Callable[..., Any]) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(ByteSet, name, function)


_overlaps = ByteSet.overlaps


def _hull(found: ByteSet) -> ByteSet:
    return replace(found, levels=(), run=0)


def _plain_terms(found: ByteSet) -> ByteSet:
    return replace(found, start_terms=(), stop_terms=())


mutant(
    "closed-intervals",
    "ranges that touch overlap",
    _method("overlaps", lambda a, b: _overlaps(a, b) or _overlaps(replace(a, stop=a.stop + 1), b)),
)
mutant(
    "last-element-forgotten",
    "the last element of a range is not in it",
    _method("overlaps", lambda a, b: _overlaps(replace(a, stop=a.stop - 4), b) if not a.levels else _overlaps(a, b)),
)
mutant(
    "columns-by-hull", "columns of one matrix overlap", _method("overlaps", lambda a, b: _overlaps(_hull(a), _hull(b)))
)
mutant(
    "unknown-is-disjoint",
    "ranges that cannot be compared do not overlap",
    _method(
        "overlaps", lambda a, b: a.start_terms == b.start_terms and a.stop_terms == b.stop_terms and _overlaps(a, b)
    ),
)
mutant(
    "symbols-are-zero",
    "scalars count as zero",
    _method("overlaps", lambda a, b: _overlaps(_plain_terms(a), _plain_terms(b))),
)


def _relative(graph: Graph, a: NodeAccess) -> NodeAccess:
    view = graph.buffers.get(a.buffer)
    shift = view.offset if view is not None else 0
    found = replace(a.bytes, start=a.bytes.start - shift, stop=a.bytes.stop - shift)
    return replace(a, bytes=found)


mutant("view-offset-ignored", "every buffer begins at its allocation's first byte", accessing(_relative))


# The verdict

_check = races.check


def _verdict(change: Callable[[races.Verdict], races.Verdict]) -> Patch:
    def wrong(graph: Graph, assumptions: Iterable[str] = frozenset()) -> races.Verdict:
        return change(_check(graph, assumptions=frozenset(assumptions)))

    return lambda monkeypatch: monkeypatch.setattr(races, "check", wrong)


mutant(
    "silent-yes",
    "what is not known to be wrong is proved",
    _verdict(lambda v: replace(v, status="proved") if v.status == "unsupported" else v),
)
mutant(
    "one-finding-is-none",
    "a single finding is let through",
    _verdict(lambda v: replace(v, status="proved") if len(v.findings) == 1 else v),
)
mutant(
    "inside-not-checked",
    "bodies are not checked inside",
    lambda monkeypatch: monkeypatch.setattr(races, "with_tables", lambda graph, body: Graph("nothing")),
)
