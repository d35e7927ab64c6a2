"""Faults 05 and 07: constants are compared by their bits, and moves keep the alignment that code may rely on."""

from __future__ import annotations

from pathlib import Path

from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

HERE = Path(__file__).parent


def graph(name: str, *edit: str) -> Graph:
    text = (HERE / f"{name}.fir").read_text()
    return parse_graph(text.replace(*edit) if edit else text)


def test_05_a_negative_zero_is_another_constant() -> None:
    zero, negative = graph("05-negative-zero.before"), graph("05-negative-zero.after")
    assert zero != negative
    for before, after in ((zero, negative), (negative, zero)):
        verdict = certify(before, after)
        assert verdict.status == "refuted"
        assert {finding.code for finding in verdict.findings} == {"C7", "C18"}
    assert certify(negative, graph("05-negative-zero.after")).proved


def test_05_a_nan_is_itself() -> None:
    nan = graph("05-negative-zero.before", "s=0.0", "s=nan")
    assert nan == graph("05-negative-zero.before", "s=0.0", "s=nan")
    assert certify(nan, graph("05-negative-zero.before", "s=0.0", "s=nan")).proved
    assert certify(nan, graph("05-negative-zero.before", "s=0.0", "s=-nan")).status == "refuted"


DECLARED = ("x: f32[N], y: f32[N]", "x: f32[N] align 16, y: f32[N] align 16")


def test_07_a_misaligned_buffer_is_invalid_where_the_kernel_says_what_it_needs() -> None:
    found = verify(graph("07-misaligned", *DECLARED))
    assert [(d.code, d.location.name) for d in found] == [("N15", "p"), ("N15", "q")]
    assert verify(graph("03-partial-write-moved.before", *DECLARED)) == []


def test_07_a_move_that_misaligns_a_buffer_is_not_proved_where_the_kernel_says_nothing() -> None:
    assert verify(graph("07-misaligned")) == []
    verdict = certify(graph("03-partial-write-moved.before"), graph("07-misaligned"))
    assert verdict.status == "unsupported"
    assert [finding.code for finding in verdict.findings] == ["C19"]
