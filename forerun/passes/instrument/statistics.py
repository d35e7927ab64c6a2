"""Statistics: what the passes counted."""

from __future__ import annotations

from forerun.passes.infra.run import PipelineRun
from forerun.passes.instrument.base import Report

__all__ = ["Statistics"]


class Statistics(Report):
    """Prints what each pass counted when the pipeline ends, or fails. The summary has the same numbers."""

    def text(self, run: PipelineRun) -> str:
        """One line for each statistic of each pass that was reached, and for each rule that was applied."""
        lines = []
        for subject, record in zip(run.pipeline, run.summary.passes, strict=False):
            for name, count in record.statistics.items():
                lines.append(f"{count:9}  {record.name}.{name}  {subject.statistics[name]}")
            rules = {name: count for name, count in record.applications.items() if name != record.name}
            lines += [f"{count:9}  {record.name}.{name}  applications of the rule" for name, count in rules.items()]
        return "\n".join(lines) or "no pass counts anything"
