"""Instruments of the pass manager: one file a feature. They load on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.passes.instrument.certify import Certify
    from forerun.passes.instrument.dump import Dump
    from forerun.passes.instrument.honesty import Honesty
    from forerun.passes.instrument.print_changed import PrintAfter
    from forerun.passes.instrument.reproducer import Reproducer
    from forerun.passes.instrument.statistics import Statistics
    from forerun.passes.instrument.stop_after import StopAfter
    from forerun.passes.instrument.timing import Timing
    from forerun.passes.instrument.verify import Verify

__all__ = [
    "Certify",
    "Dump",
    "Honesty",
    "Instrument",
    "PassRun",
    "PipelineRun",
    "PrintAfter",
    "Reproducer",
    "Statistics",
    "StopAfter",
    "Timing",
    "Verify",
    "default_instruments",
    "writers",
]

_LAZY = {
    "Certify": "forerun.passes.instrument.certify",
    "Dump": "forerun.passes.instrument.dump",
    "Honesty": "forerun.passes.instrument.honesty",
    "PrintAfter": "forerun.passes.instrument.print_changed",
    "Reproducer": "forerun.passes.instrument.reproducer",
    "Statistics": "forerun.passes.instrument.statistics",
    "StopAfter": "forerun.passes.instrument.stop_after",
    "Timing": "forerun.passes.instrument.timing",
    "Verify": "forerun.passes.instrument.verify",
}

__getattr__ = lazy_exports(__name__, _LAZY)


def default_instruments(dump: str | Path | None = None, *, allow_unsupported: bool = False) -> list[Instrument]:
    """What accompanies every compilation: each pass is verified, certified and held to honesty.

    A folder for dumps gets the graph after each pass, the differences, the summary, and a reproducer of a failure. With
    ``allow_unsupported`` a pass may lose the proof of a graph that was proved; see :class:`Certify`.
    """
    from forerun.passes.instrument.certify import Certify
    from forerun.passes.instrument.honesty import Honesty
    from forerun.passes.instrument.verify import Verify

    checks: list[Instrument] = [Honesty(), Verify(), Certify(allow_unsupported=allow_unsupported)]
    return checks if dump is None else [*writers(dump), *checks]


def writers(dump: str | Path) -> list[Instrument]:
    """What writes into a folder of dumps."""
    from forerun.passes.instrument.dump import Dump
    from forerun.passes.instrument.reproducer import Reproducer

    return [Dump(dump), Reproducer()]
