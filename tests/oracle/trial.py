"""One trial: a random graph, a random rewrite of it, what the certificate says, and what is seen when both run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.refinement import certificate
from forerun.ir.verify import verify
from forerun.support.diagnostics import ForerunError, Severity
from tests.oracle.launches import Store, Values
from tests.oracle.programs import handing_on, program
from tests.oracle.rewrites import REWRITES, Rewritten
from tests.oracle.runs import Seen, adversaries, has_events, in_order, run, serial, standing_for

__all__ = ["Trial", "differs", "is_valid", "pair", "trial"]

_ATTEMPTS = 40
_EVERY = 16
"""One graph of so many hands on a temporary that another kernel writes in part."""
_NOT_WITH_FUSIONS = {"relocate temporaries", "plan-memory", "swap phases", "move a step"}
"""A fused kernel that stores before it reads computes nothing that its rule could state: no matter of accesses."""
_KINDS, _WEIGHTS = list(REWRITES), [weight for weight, _ in REWRITES.values()]


@dataclass(frozen=True)
class Trial:
    """What came of a pair.

    Attributes:
        seed: Where it began.
        kind: The rewrite.
        status: The certificate's verdict.
        differs: Whether some schedule of after shows something else than before.
    """

    seed: int
    kind: str
    status: str
    differs: bool

    @property
    def unsound(self) -> bool:
        """Whether something is proved that is wrong."""
        return self.status == "proved" and self.differs


def is_valid(graph: Graph) -> bool:
    """Whether the verifier has no objection."""
    return not any(d.severity is Severity.ERROR for d in verify(graph))


def pair(seed: int, kinds: Mapping[str, float] | None = None) -> tuple[str, Graph, Rewritten, frozenset[str], Random]:
    """A graph and what it became; both are valid.

    Args:
        seed: Decides everything.
        kinds: The rewrites that may occur, with how often; by default all.
    """
    chooser = Random(seed)
    for attempt in count():
        before = program(chooser) if attempt or seed % _EVERY else handing_on(chooser)
        if not is_valid(before):
            continue
        for _ in range(_ATTEMPTS):
            kind, found = _rewritten(chooser, before, kinds)
            if found is not None and is_valid(found.graph):
                assumptions = frozenset({chooser.choice(["H6", "H8"])} if chooser.random() < 0.15 else ())
                return kind, before, found, assumptions, chooser
    raise AssertionError("unreachable")


def _rewritten(chooser: Random, before: Graph, kinds: Mapping[str, float] | None) -> tuple[str, Rewritten | None]:
    """One rewrite, or two in a row."""
    names, weights = (_KINDS, _WEIGHTS) if kinds is None else (list(kinds), list(kinds.values()))
    chosen = chooser.choices(names, weights, k=2 if chooser.random() < 0.25 else 1)
    graph, fusions = before, dict[str, tuple[str, ...]]()
    for kind in chosen:
        try:
            made = REWRITES[kind][1](chooser, graph)
        except ForerunError:
            return "", None
        if made is None:
            return "", None
        found = made if isinstance(made, Rewritten) else Rewritten(made)
        if found.fusions and graph is not before:
            return "", None
        graph = found.graph
        fusions |= found.fusions
    if fusions and set(chosen) & _NOT_WITH_FUSIONS:
        return "", None
    return chosen[0], Rewritten(graph, {f: parts for f, parts in fusions.items() if f in graph.nodes})


def trial(seed: int, kinds: Mapping[str, float] | None = None) -> Trial:
    """One pair, judged by the certificate and by running it."""
    kind, before, after, assumptions, chooser = pair(seed, kinds)
    verdict = certificate.certify(before, after.graph, assumptions, after.fusions)
    return Trial(seed, kind, verdict.status, differs(before, after, assumptions, chooser))


def differs(before: Graph, after: Rewritten, assumptions: frozenset[str], chooser: Random, some: int = 4) -> bool:
    """Whether some schedule of after shows something else than before, run in launch order, shows."""
    same = _expected(before, assumptions, chooser)
    fused = {name: standing_for(before, parts) for name, parts in after.fusions.items() if name not in before.nodes}
    return any(not same(seen) for seen in _runs(after.graph, before, assumptions, fused, chooser, some))


def _runs(
    graph: Graph,
    like: Graph,
    assumptions: frozenset[str],
    fused: Mapping[str, Callable[[Values], Store]],
    chooser: Random,
    some: int,
) -> Iterator[Seen]:
    known: dict[Any, Any] = {}
    for priority in adversaries(graph, chooser, some):
        seen = run(graph, priority, like=like, assumptions=assumptions, fused=fused, known=known)
        yield seen
        if not seen.choices:
            return


def _expected(before: Graph, assumptions: frozenset[str], chooser: Random) -> Callable[[Seen], bool]:
    """Whether what is seen is what before shows.

    Where others watch or wait for a graph while it runs, only what they see of each schedule of before counts.
    """
    chain = serial(before)
    wanted = run(chain, in_order(chain))
    if not has_events(before):
        return lambda seen: seen == wanted and not seen.misuses
    runs = [wanted, *_runs(before, before, assumptions, {}, chooser, 3)]
    certain = _certain([_items(seen) for seen in runs])
    return lambda seen: not seen.misuses and _agrees(_items(seen), certain)


_Items = dict[object, tuple[object, ...]]


def _items(seen: Seen) -> _Items:
    items: _Items = dict(enumerate(seen.memory))
    items["order"] = tuple(name for name, _ in seen.log)
    times: dict[str, int] = {}
    for name, values in seen.log:
        times[name] = times.get(name, 0) + 1
        items[name, times[name]] = values
    return items


def _certain(runs: list[_Items]) -> dict[object, dict[int, object]]:
    first, *others = runs
    return {
        key: {
            i: value
            for i, value in enumerate(values)
            if all(key in other and len(other[key]) == len(values) and other[key][i] == value for other in others)
        }
        for key, values in first.items()
    }


def _agrees(items: _Items, certain: dict[object, dict[int, object]]) -> bool:
    for key, values in certain.items():
        found = items.get(key, ())
        if any(i >= len(found) or found[i] != value for i, value in values.items()):
            return False
    return True
