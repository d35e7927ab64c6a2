"""What counts mean: a verdict on each test, and on each assumption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forerun.ir.semantics import ASSUMPTIONS
from forerun.runtime.litmus.catalogue import TESTS
from forerun.runtime.litmus.measurement import Counts
from forerun.runtime.litmus.rules import needed_assumptions

__all__ = ["MINIMUM_RUNS", "Decision", "broken_rules", "decide", "rule_text", "verdict"]

MINIMUM_RUNS = 300
"""Runs of each test that an assumption needs. None of n runs violated: at 95 % confidence, fewer than 3/n are."""


def rule_text(needed: frozenset[str] | None) -> str:
    """What the rules say of a test: ``never``, ``never by H6``, or ``may``."""
    if needed is None:
        return "may"
    return f"never by {' and '.join(sorted(needed))}" if needed else "never"


def verdict(needed: frozenset[str] | None, counts: Counts) -> str:
    """``kept``, ``BROKEN``, ``allowed, seen``, ``allowed, not seen``, ``nothing to see``, or ``FAULTY``.

    ``needed`` is what :func:`~forerun.runtime.litmus.rules.needed_assumptions` says of the test.
    """
    if counts.foreign:
        return "FAULTY"
    if not counts.runs:
        return "nothing to see"
    if needed is None:
        return "allowed, seen" if counts.violated else "allowed, not seen"
    return "BROKEN" if counts.violated else "kept"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the counts support an assumption.

    Attributes:
        status: ``granted``, ``refuted``, or ``inconclusive``.
        reasons: Sentences; why it is so.
    """

    status: str
    reasons: tuple[str, ...]

    @property
    def granted(self) -> bool:
        """Whether the assumption may be used."""
        return self.status == "granted"


def broken_rules(results: Mapping[str, Counts]) -> tuple[str, ...]:
    """The tests that show what the strict rules forbid, or that are faulty: then nothing else can be trusted."""
    known = [name for name in TESTS if name in results]
    strict = [name for name in known if needed_assumptions(TESTS[name]) == frozenset() and results[name].violated]
    return tuple(dict.fromkeys([*strict, *(name for name in known if results[name].foreign)]))


def decide(results: Mapping[str, Counts]) -> dict[str, Decision]:
    """A decision on each assumption, by the counts of tests; some may be missing.

    An assumption is refuted if a test shows what it forbids. It is granted if all tests that need it, and all its
    controls, ran often enough, none of the former shows anything, and each of the latter does. A control that shows
    nothing means that the tests beside it would have shown nothing either, so the run is inconclusive.
    """
    faults = broken_rules(results)
    return {assumption: _decide(assumption, results, faults) for assumption in ASSUMPTIONS}


def _decide(assumption: str, results: Mapping[str, Counts], faults: tuple[str, ...]) -> Decision:
    claims = [name for name, test in TESTS.items() if assumption in (needed_assumptions(test) or ())]
    controls = [name for name, test in TESTS.items() if assumption in test.controls]
    refuting = [name for name in claims if name in results and results[name].violated]
    if refuting:
        counts = ((name, results[name]) for name in refuting)
        seen = "; ".join(f"{name} shows it in {found.violated:,} of {found.runs:,} runs" for name, found in counts)
        return Decision("refuted", (f"it was broken: {seen}",))
    reasons = [f"{', '.join(faults)} broke the documented rules, or the tests are faulty"] if faults else []
    reasons += list(_gaps([*claims, *controls], results))
    silent = [name for name in controls if name in results and results[name].runs and not results[name].violated]
    if silent:
        reasons.append(f"{', '.join(silent)}, which must show violations, showed none")
    if reasons:
        return Decision("inconclusive", tuple(reasons))
    least = min(results[name].runs for name in claims)
    kept = f"none of {len(claims)} tests showed a violation in {least:,} runs each"
    bound = f"fewer than {3 / least:.2%} of runs show one, at 95 % confidence"
    return Decision("granted", (f"{kept}: {bound}", f"all {len(controls)} controls showed violations"))


def _gaps(names: Iterable[str], results: Mapping[str, Counts]) -> Iterable[str]:
    names = list(names)
    missing = [name for name in names if name not in results]
    if missing:
        yield f"not run: {', '.join(missing)}"
    few = [name for name in names if name in results and results[name].runs < MINIMUM_RUNS]
    if few:
        yield f"fewer than {MINIMUM_RUNS} runs: {', '.join(few)}"
