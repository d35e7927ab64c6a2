"""What is known of single inputs: those that attacks found (tests/faults), and relatives, with the right verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics.races import check
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

__all__ = ["Known", "known"]

_FAULTS = Path(__file__).parents[1] / "faults"
_PROVED, _NOT = frozenset({"proved"}), frozenset({"refuted", "unsupported"})


@dataclass(frozen=True)
class Known:
    """An input, as text, and the answers that are right.

    Attributes:
        before: A graph.
        after: What it became; empty if the graph alone is checked.
        statuses: ``invalid``, or verdicts.
        fusions: What nodes of after stand for.
        assumptions: Under which the checker is asked.
    """

    before: str
    after: str
    statuses: frozenset[str]
    fusions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    assumptions: frozenset[str] = frozenset()

    def is_contradicted(self) -> bool:
        """Whether the checker, as it is now, says anything else; each time of graphs that are new."""
        return self._answer() not in self.statuses

    def _answer(self) -> str:
        before = parse_graph(self.before)
        after = parse_graph(self.after) if self.after else before
        if verify(before) or verify(after):
            return "invalid"
        if not self.after:
            return check(before, self.assumptions).status
        return certify(before, after, self.assumptions, self.fusions).status


def _text(name: str, *changes: tuple[str, str]) -> str:
    found = (_FAULTS / f"{name}.fir").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in found, (name, old)
        found = found.replace(old, new)
    return found


def _pair(name: str, *changes: tuple[str, str]) -> tuple[str, str]:
    return _text(f"{name}.before", *changes), _text(f"{name}.after", *changes)


@lru_cache
def known() -> list[Known]:
    """All of them."""
    return [*_bodies(), *_covers(), *_numbers(), *_outside(), *_memory()]


def _bodies() -> Iterator[Known]:
    before, after = _pair("01-async-write")
    yield Known(before, after, frozenset({"refuted"}))
    yield Known(after, before, frozenset({"refuted"}))
    yield Known(before, before, _PROVED)
    h8 = frozenset({"H8"})
    yield Known(_text("04-h8-async"), "", frozenset({"unsupported"}), assumptions=h8)
    yield Known(_text("04-h8-async", ("    wait\n", "")), "", frozenset({"unsupported"}), assumptions=h8)
    yield Known(_text("04-h8-async", (" async", "")), "", _PROVED, assumptions=h8)
    launched = "node #n = @div(a=%x, y=%y, s=0.0)"
    small = _text("05-negative-zero.before")
    large = small.replace(launched, f"{launched} grid(2) block(64)")
    accepting = "s: scalar f32) {", "s: scalar f32) launches grid(1..4) block(32..128 step 32) {"
    yield Known(small, large, _NOT)
    yield Known(small.replace(*accepting), large.replace(*accepting), _PROVED)


_TAKEN = "if %c {\n  graph b\n  node #inside = fill %flat with 2\n}"
"""A branch in the place of the write through a page table."""


def _covers() -> Iterator[Known]:
    fused = {"F": ("P", "Q")}
    yield Known(*_pair("02-uncertain-cover"), frozenset({"refuted"}), fused)
    yield Known(*_pair("02-uncertain-cover", ("temp paged(%table, 1) at", "temp at")), _PROVED, fused)
    branch = ("buffer %x", "buffer %c : i32[1] input\nbuffer %x"), ("@copy(x=%x, y=%pg)", _TAKEN)
    yield Known(*_pair("02-uncertain-cover", *branch), _NOT, fused)
    child = ("@copy(x=%x, y=%pg)", _TAKEN.replace("if %c", "child"))
    yield Known(*_pair("02-uncertain-cover", child), _PROVED, fused)
    yield Known(*_pair("03-partial-write-moved"), _PROVED)
    scatter = "kernel @part(x: f32[N], y: f32[N]) {\n  role r {\n    phase p reads x, y writes y\n  }\n}\nnode #zero ="
    partial = ("node #zero =", scatter), ("node #scatter = @copy", "node #scatter = @part")
    yield Known(*_pair("03-partial-write-moved", *partial), _NOT)
    weight = ("buffer %pg : f32[4, 2] temp paged(%table, 1) at $a", "buffer %pg : f32[4, 2] weight paged(%table, 1)")
    yield Known(_text("02-uncertain-cover.before", weight), "", frozenset({"invalid"}))


def _numbers() -> Iterator[Known]:
    zero, negative = _pair("05-negative-zero")
    yield Known(zero, negative, frozenset({"refuted"}))
    yield Known(negative, negative, _PROVED)
    nan, other = (zero.replace("s=0.0", f"s={value}") for value in ("nan", "-nan"))
    yield Known(nan, nan, _PROVED)
    yield Known(nan, other, frozenset({"refuted"}))


_CALL = 'host "m:tell_the_scheduler_that_y_is_ready"'


def _outside() -> Iterator[Known]:
    before, after = _pair("06-host-call-moved")
    yield Known(before, after, frozenset({"refuted"}))
    yield Known(*_pair("06-host-call-moved", (_CALL, f"{_CALL} reads %s")), frozenset({"refuted"}))
    yield Known(*_pair("06-host-call-moved", (_CALL, f"{_CALL} pure reads %s")), _PROVED)
    nested = _CALL, f"child {{\n  graph b\n  node #tell = {_CALL}\n}}"
    yield Known(*_pair("06-host-call-moved", nested), frozenset({"refuted"}))


def _memory() -> Iterator[Known]:
    yield Known(_text("03-partial-write-moved.before"), _text("07-misaligned"), _NOT)
    declared = "x: f32[N], y: f32[N]", "x: f32[N] align 16, y: f32[N] align 16"
    yield Known(_text("07-misaligned", declared), "", frozenset({"invalid"}))
    name, use = "09-use-before-alloc-after-free", "node #w = @map(x=%x, y=%h)"
    early = ("node #early = @map(x=%x, y=%h)\n", ""), ("  after #early full\n", "")
    late = "node #late = @map(x=%h, y=%y)\n  after #fr full\n"
    copied = f"{use}\n  after #al full\nnode #late = @map(x=%h, y=%y)\n  after #w full\n"
    freed = ("node #fr = free $m\n  after #w full", "node #fr = free $m\n  after #late full")
    yield Known(_text(name, (late, ""), ("output", "input")), "", frozenset({"invalid"}))
    yield Known(_text(name, *early), "", frozenset({"invalid"}))
    right = _text(name, *early, (late, ""), (f"{use}\n  after #al full\n", copied), freed)
    yield Known(right, "", _PROVED)
    yield Known(right.replace(use, "node #w = @map(x=%h, y=%y)"), "", frozenset({"invalid"}))
    for f2 in ("10-f2-called-invalid", "10-f2-without-the-write"):
        yield Known(_text(f2), "", _PROVED | _NOT)
