"""Delays of the replays of a debug run: which nodes sleep, how long, and which of their warps or CTAs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from forerun.external.node_texts import assemble_all
from forerun.external.subject import Subject
from forerun.ptx.delays import Sleepers, delay_word, delayed
from forerun.runtime.cuda.capture.clone import NodeCode

__all__ = ["UNDELAYED", "DelayPlan", "DelayedCode", "SleepingNodes", "delay_plans", "delayed_code", "fault_plans"]

SleepingNodes: TypeAlias = Literal["all", "even", "odd", "source"]
"""The nodes that sleep, by their numbers; or only the one whose results are read too early. No other node sleeps."""


@dataclass(frozen=True, slots=True)
class DelayPlan:
    """The delays of one replay.

    Attributes:
        seed: By which warps or CTAs are chosen.
        nanoseconds: How long they sleep at one place, about.
        share: Which part of them sleeps.
        sleepers: Whether warps sleep, or whole CTAs.
        nodes: Which nodes sleep.
    """

    seed: int
    nanoseconds: int
    share: float = 1.0
    sleepers: Sleepers = "warps"
    nodes: SleepingNodes = "all"

    def __str__(self) -> str:
        part = self.sleepers if self.sleepers == "end CTAs" else f"{self.share:.0%} of the {self.sleepers}"
        nodes = {"all": "all nodes", "source": "the source alone"}.get(self.nodes, f"{self.nodes} nodes")
        return f"{part} of {nodes}, {self.nanoseconds / 1000:g} us"

    def delays(self, number: int, *, is_source: bool) -> bool:
        """Whether a node sleeps, by its number."""
        if self.nodes == "source":
            return is_source
        return self.nodes == "all" or (number % 2 == 0) == (self.nodes == "even")


UNDELAYED = DelayPlan(0, 0)

_EVERYWHERE: tuple[tuple[float, Sleepers, SleepingNodes], ...] = (
    (1.0, "warps", "all"),
    (0.1, "CTAs", "even"),
    (0.5, "warps", "all"),
    (0.1, "CTAs", "odd"),
    (0.25, "warps", "all"),
    (1.0, "end CTAs", "all"),
    (0.1, "warps", "all"),
    (0.02, "CTAs", "all"),
)
_AT_SOURCE: tuple[tuple[float, Sleepers], ...] = (
    (0.25, "CTAs"),
    (1.0, "warps"),
    (0.05, "CTAs"),
    (1.0, "end CTAs"),
    (0.1, "warps"),
    (0.02, "CTAs"),
    (0.25, "warps"),
    (0.5, "CTAs"),
)
_LONGER = (5, 20)
"""How much longer a source sleeps alone: 100 and 400 us, if all nodes sleep 20 us."""


def delay_plans(count: int, nanoseconds: int) -> list[DelayPlan]:
    """The delays of some replays of a whole graph, each time others."""
    kinds = (_EVERYWHERE[seed % len(_EVERYWHERE)] for seed in range(count))
    return [DelayPlan(seed, nanoseconds, *kind) for seed, kind in enumerate(kinds)]


def fault_plans(count: int, nanoseconds: int) -> list[DelayPlan]:
    """The delays of the replays of a planted fault: those of a whole graph, then longer ones of its source alone.

    A CTA of the target may start only where one of the source has ended, if both together do not fit. Then the fault is
    seen if few CTAs of the source are late, and the target is not.
    """
    plans = delay_plans(min(count, len(_EVERYWHERE)), nanoseconds)
    while len(plans) < count:
        turn, kind = divmod(len(plans) - len(_EVERYWHERE), len(_AT_SOURCE))
        long = nanoseconds * _LONGER[min(turn, len(_LONGER) - 1)]
        plans.append(DelayPlan(len(plans), long, *_AT_SOURCE[kind], nodes="source"))
    return plans


@dataclass(frozen=True)
class DelayedCode:
    """Code with delays, by the nodes' names; and why other kernel nodes have none."""

    made: Mapping[str, bytes]
    kept: Mapping[str, str]

    def codes(self, subject: Subject, plan: DelayPlan, source: str = "") -> Mapping[str, NodeCode]:
        """What all nodes of a graph run.

        Args:
            subject: What is debugged.
            plan: The delays.
            source: The node whose results are read too early, if there is one.
        """
        numbers = {name: number for number, name in enumerate(subject.imported.names)}
        found = {}
        for name, code in self.made.items():
            nanoseconds = plan.nanoseconds if plan.delays(numbers[name], is_source=name == source) else 0
            seed = 1_000_003 * plan.seed + 7919 * numbers[name]
            found[name] = NodeCode(code, (delay_word(seed, nanoseconds, plan.share, plan.sleepers),))
        return {**subject.codes, **found}


def delayed_code(subject: Subject) -> DelayedCode:
    """The code of a graph's nodes with delays."""
    texts = subject.texts.texts
    slow = {key: delayed(*key) for key in dict.fromkeys((one.text, one.entry) for one in texts.values())}
    found = dict(zip(texts, assemble_all([(one, slow[one.text, one.entry]) for one in texts.values()]), strict=True))
    kept = {name: code for name, code in found.items() if isinstance(code, str)}
    made = {name: code for name, code in found.items() if isinstance(code, bytes)}
    return DelayedCode(made, {**subject.texts.kept, **kept})
