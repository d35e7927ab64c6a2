"""What went wrong in public, as pairs of graphs: every fault is refuted for the right reason, and every fix is proved.

The comment at the head of each file tells its story. Its ``// expect:`` lines say what the checker must find, exactly:
the status first, then each race (``R1 KIND #earlier -> #later %buffer``, the buffer through which the later access is
made) and each node that is not drained (``R2 #node``; inside a body ``R2 #owner/node``).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from forerun.ir.graph import Graph
from forerun.ir.semantics import Verdict, check
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.fir"))
PUBLIC = {
    "merge_reads_before_wait",
    "gate_on_wrong_end",
    "launcher_without_wait",
    "restrict_moved_over_wait",
    "partial_warp_wait",
    "constructor_before_wait",
    "bias_is_a_fresh_cast",
    "chains_share_scratch",
    "stores_not_guarded",
    "one_warp_triggers",
    "tail_starves_producer",
}
"""Shapes that became wrong answers or a hang in a shipped engine; the others follow from the rules."""


def expected(text: str) -> list[str]:
    return [line.removeprefix("// expect: ") for line in text.splitlines() if line.startswith("// expect: ")]


def found(verdict: Verdict) -> set[str]:
    races = {
        f"R1 {race.kind} #{race.earlier.node} -> #{race.later.node} %{race.later.buffer}" for race in verdict.races
    }
    return races | {f"R2 #{name}" for name in verdict.undrained}


def judge(graph: Graph) -> tuple[str, set[str]]:
    assert verify(graph) == []
    verdict = check(graph)
    return verdict.status, found(verdict)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_incident(path: Path) -> None:
    text = path.read_text()
    status, *findings = expected(text)
    assert judge(parse_graph(text, str(path))) == (status, set(findings))


def test_every_fault_has_its_fix() -> None:
    faults = {path.name.removesuffix(".fault.fir") for path in FILES if path.name.endswith(".fault.fir")}
    fixes = {path.name.removesuffix(".fix.fir") for path in FILES if path.name.endswith(".fix.fir")}
    assert faults == fixes >= PUBLIC
    assert all(expected((FOLDER / f"{name}.fix.fir").read_text()) == ["proved"] for name in fixes)


def test_only_the_hang_is_out_of_reach() -> None:
    proved = [path.name for path in FILES if ".fault." in path.name and expected(path.read_text()) == ["proved"]]
    assert proved == ["tail_starves_producer.fault.fir"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_story_comes_first(path: Path) -> None:
    story = path.read_text().partition("// expect: ")[0].splitlines()
    assert len(story) >= 3
    assert all(line.startswith("//") for line in story)
