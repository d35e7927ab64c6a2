"""Writes docs/evidence.md: what is known of the checker and the passes, from the results and records in the tree.

Run from the repository's root, after ``python -m tests.wrong.survey``, ``python -m benchmarks.exhaustive``,
``python -m benchmarks.mutation`` or ``python -m benchmarks.checker``: ``python -m benchmarks.evidence``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

from benchmarks.mutation import GROUPS, SURVIVORS
from tests.oracle.faults import FAULTS
from tests.wrong.checker_mutants import MUTANTS
from tests.wrong.corpora import KILLERS
from tests.wrong.passes import WRONG_PASSES
from tests.wrong.survey import RECORD

__all__ = ["page"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "evidence.md"

_INTRODUCTION = """\
# Evidence

Why the checker and the passes can be trusted. This page is written by `python -m benchmarks.evidence` from results and
records in the tree; edit the script, not the page.

## Incidents

`tests/incidents` has a pair of graphs for each fault that became wrong answers or a hang in a shipped engine, and for a
few more that follow from the rules. Each fault is refuted for the right reason (its races and undrained nodes are
listed in the file, exactly), each fix is proved. One fault is proved as well, and its file says why: a tail kernel
whose waiting CTAs leave no place for the producer. The checker decides which accesses may meet, not whether all CTAs
find a place.
"""

_ORACLES = {
    "explorer": "every schedule of three kernels on one buffer",
    "explorer with H6": "the same, with the order of starts granted",
    "explorer on roles": "every schedule of kernels with several roles and barriers",
    "event graph": "an explicit graph of events and all pairs of accesses, on random programs",
    "single bytes": "sets of single bytes and all interleavings, with copies, page tables, black boxes, bodies",
    "single bytes of rows": "the same on rows at positions from memory",
    "single bytes of boxes": "the same on boxes of a matrix that cover each other in part",
    "known inputs": "inputs that attacks found (`tests/faults`), and relatives, each with its verdict",
}


def page() -> str:
    """The text of docs/evidence.md."""
    record = json.loads(RECORD.read_text())
    parts = [_INTRODUCTION, _exhaustive(_metrics("explorer"))]
    parts.append(_wrong_checkers(record["checkers"]))
    parts.append(_second_oracle(_metrics("oracle")))
    parts.append(_wrong_passes(record["passes"]))
    parts.append(_mutation(_metrics("mutation"), _metrics("mutation_fresh")))
    return "\n".join(parts)


def _metrics(name: str) -> dict[str, float]:
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text())["metrics"] if path.exists() else {}
    return {key.partition(".")[2]: metric["value"] for key, metric in found.items()}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells) + "\n"


def _exhaustive(found: dict[str, float]) -> str:
    counts = {name: f"{int(value):,}" for name, value in found.items()}
    return f"""\
## The checker against the explorer

All 328,509 graphs of three kernels on one buffer, and random ones of three to five nodes with roles, barriers, fills
and every kind of edge (`python -m benchmarks.exhaustive`): the explorer runs every schedule, the checker compares sets.
Both are asked twice, strictly and with H6.

{
        _table(
            ("graphs", "proved", "unsound", "disagreements", "imprecise"),
            [[counts[n] for n in ("cases", "proved", "unsound", "disagreements", "imprecise")]] if counts else [],
        )
    }
*Unsound*: proved by the checker, not by the explorer. *Disagreement*: the other way round, under the same rules.
*Imprecise*: refused strictly although no schedule under H6 is wrong; that is the price of not relying on the order of
starts. A slice of 20,000 three-kernel graphs and 400 random ones runs in every test run (`tests/exhaustive`).
"""


def _wrong_checkers(killers: dict[str, list[str]]) -> str:
    oracles = [[name, what, str(sum(name in found for found in killers.values()))] for name, what in _ORACLES.items()]
    rows = [[m.name, m.wrong, ", ".join(killers[m.name])] for m in MUTANTS]
    return f"""\
## Wrong checkers

{len(MUTANTS)} wrong checkers, made by hand (`tests/wrong/checker_mutants.py`), and the oracles that contradict them:

{_table(("oracle", "what it knows", "kills"), oracles)}
{_table(("wrong checker", "what is wrong", "killed by"), rows)}"""


def _second_oracle(found: dict[str, float]) -> str:
    counts = {name: f"{int(value):,}" for name, value in found.items() if not name.startswith("proved_share")}
    names = ("pairs", "proved", "unsound", "refuted", "unsupported", "refuted_but_same")
    rows = [(name, what) for name, (what, _, _) in FAULTS.items()]
    return f"""\
## Certificates against the second oracle

Random rewrites of random graphs, right and wrong (`python -m benchmarks.oracle`). The oracle runs both graphs: each
byte is a hash of the phase that wrote it and of the bytes that it read, and many schedules are tried that the rules
allow. It shares no code with the certificate.

{_table(names, [[counts[name] for name in names]] if counts else [])}
*Unsound*: proved, but some schedule shows other outputs, state or host calls. *Refuted but same*: refuted, and no
schedule that was tried shows a difference, as where bytes are written that nobody reads.

{len(FAULTS)} wrong certificates (`tests/oracle/faults.py`), each of which the oracle finds out:

{_table(("wrong certificate", "what is wrong"), rows)}"""


def _wrong_passes(laws: dict[str, list[str]]) -> str:
    rows = [[p.name, p.subject.name, p.wrong, ", ".join(laws.get(p.name) or [p.law])] for p in WRONG_PASSES]
    return f"""\
## Wrong passes

{len(WRONG_PASSES)} wrong passes (`tests/wrong/passes/`), and the laws of `tests/passes/laws.py` that they break.

{_table(("wrong pass", "in the place of", "what is wrong", "laws broken"), rows)}"""


def _mutation(found: dict[str, float], fresh: dict[str, float]) -> str:
    text = """\
## Mutation testing

`python -m benchmarks.mutation` changes one place of `forerun/ir/explain`, `refinement`, `semantics` or of the passes
at a time, on a seeded sample of all places, and runs the tests that execute the changed statement.
`benchmarks/mutants.py` lists what is changed, and what is not.

"""
    if not found:
        return text + "No run is recorded.\n"
    survivors: list[dict[str, Any]] = json.loads(SURVIVORS.read_text())
    text += f"{int(found['tried'])} mutants were tried, {found['killed_share']:.1%} of them killed. "
    if fresh:
        text += "Some tests were written for what had\nsurvived of this sample, so others were tried as well: "
        text += f"of {int(fresh['fresh_tried'])} mutants outside it, {fresh['fresh_killed_share']:.1%} were killed.\n"
    text += "What lives of the sample:\n\n"
    counts = Counter(survivor["group"] for survivor in survivors)
    known = [(what, str(counts[group])) for group, what in GROUPS.items() if group or counts[group]]
    text += _table(("why they live", "number"), known)
    for group, what in GROUPS.items():
        rows = [(_place(s), f"`{s['change']}`", s["why"]) for s in survivors if s["group"] == group]
        if rows:
            text += f"\n{what[0].upper()}{what[1:]}:\n\n" + _table(("place", "change", "why it lives"), rows)
    return text


def _place(survivor: dict[str, Any]) -> str:
    return f"{Path(survivor['path']).name}:{survivor['line']}"


def main() -> None:
    """Write the page and benchmarks/results/wrong_passes.json."""
    assert list(_ORACLES) == list(KILLERS)
    record = json.loads(RECORD.read_text())
    dead = sum(bool(found) for table in record.values() for found in table.values())
    total = len(MUTANTS) + len(WRONG_PASSES) + len(FAULTS)
    counts = {"wrong_passes.killed": dead, "wrong_passes.total": total}
    write_result("wrong_passes", {name: Metric(n, "mutants", n, n) for name, n in counts.items()})
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
