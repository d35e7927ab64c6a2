"""Timing: where the time of a compilation went."""

from __future__ import annotations

from forerun.passes.infra.run import PipelineRun
from forerun.passes.instrument.base import Report

__all__ = ["Timing"]


class Timing(Report):
    """Prints a table of times when the pipeline ends, or fails. The summary has the same numbers."""

    def text(self, run: PipelineRun) -> str:
        """Milliseconds in each pass and in checking it, as lines of text."""
        rows = [(r.text, r.seconds, r.verification_seconds) for r in run.summary.passes]
        rows.append(("all passes", sum(r[1] for r in rows), sum(r[2] for r in rows)))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{'pass':<{width}}  {'ms':>9}  {'check ms':>9}"]
        lines += [f"{name:<{width}}  {1e3 * spent:9.2f}  {1e3 * checked:9.2f}" for name, spent, checked in rows]
        return "\n".join(lines)
