"""Writes docs/performance.md from the JSON files in benchmarks/results: no figure in it is typed by hand.

Run from the repository's root after a benchmark: ``python -m benchmarks.performance``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.performance_sections import RESULTS, SECTIONS, Section

__all__ = ["PAGE", "page"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"

_INTRODUCTION = """\
# Performance

What was measured, how, and on what. This page is written by `python -m benchmarks.performance` from the files in
`benchmarks/results`; edit the script, not the page. Times are medians, intervals are of the bootstrap at 95 %, unless a
line says otherwise; a speedup is old time over new time, measured in one run in the order A B B A. Absolute times hold
for that machine only. Nothing is timed whose outputs were not checked in the same run.
"""


def page() -> str:
    """The text of docs/performance.md."""
    parts = [_INTRODUCTION]
    for section in SECTIONS:
        path = RESULTS / f"{section.name}.json"
        if path.exists():
            parts.append("\n".join(_section(section, json.loads(path.read_text()))))
    return "\n".join(parts)


def _section(section: Section, result: dict[str, Any]) -> Iterator[str]:
    limits = dict(section.limits)
    yield f"## {section.title}\n"
    yield f"{section.text if isinstance(section.text, str) else section.text()}\n"
    where = " and ".join(part for part in (result.get("gpu"), result["machine"]) if part and part != "not noted")
    driver = f", driver {result['driver']}" if "driver" in result else ""
    note = result.get("note") or result.get("remark")
    if note:
        yield f"Note: {note.rstrip('.')}.\n"
    yield f"On {where}{driver}; commit {result['commit'][:12]}, {result['date'][:10]}.\n"
    yield "| metric | value | low | high | unit | goal |"
    yield "|---|---:|---:|---:|---|---|"
    for name, metric in (result.get("metrics") or _noted(result)).items():
        numbers = " | ".join(_number(metric[key]) for key in ("value", "low", "high"))
        yield f"| `{name}` | {numbers} | {metric['unit']} | {limits.get(name, '')} |"
    yield ""


def _noted(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of times that were only noted, without intervals."""
    times = {f"{record['name']}_us": 1e6 * record["seconds"] for record in result["records"]}
    return {name: {"value": value, "low": value, "high": value, "unit": "us"} for name, value in times.items()}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
