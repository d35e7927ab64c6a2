"""What the searches of ``pytest --forerun-pass`` came to, also when pytest-xdist spreads them over processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["PROPERTY", "Tally", "Trial"]

PROPERTY = "forerun_search"
"""The user property of a test's report: the pass, how many graphs were tried, how many it changed, and seconds."""


@dataclass
class Trial:
    """What the searches for one pass came to."""

    subject: str
    examples: int = 0
    fired: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.subject}: changed {self.fired} of {self.examples} graphs, {self.seconds:.1f} s"


class Tally:
    """A plugin that adds up what the reports of tests say. Reports reach the controller of pytest-xdist, state not."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Account for the searches of one test."""
        values: list[Any] = [value for name, value in report.user_properties if name == PROPERTY]
        for subject, examples, fired, seconds in values if report.when == "call" else []:
            trial = self.trials.setdefault(subject, Trial(subject))
            trial.examples += examples
            trial.fired += fired
            trial.seconds += seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how often each pass changed a graph."""
        if not self.trials:
            return
        terminalreporter.section("forerun: properties of passes")
        for subject in sorted(self.trials):
            terminalreporter.write_line(str(self.trials[subject]))
