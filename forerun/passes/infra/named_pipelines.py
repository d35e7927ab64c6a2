"""The pipelines that have names: their passes, in order, and why in this order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["EXACT_PIPELINE", "FAST_PIPELINE", "NAMED_PIPELINES", "RAGGED_PIPELINE", "SPLITS_PIPELINE", "name_of"]

_FOLD = (
    # First: without copies of constants in between, kernels that are equal, or follow each other, are seen to be. On
    # launch order, since what was ordered through a copy stays ordered. Graphs without such copies stay the very same.
    "fold-params",
)
_OVERLAP = (
    # Streams order everything; only hazards need an order. First, since the others work on dependencies.
    "infer-dependencies",
    # Waits and triggers go in before anything is moved ahead of a wait.
    "insert-pdl",
    # Needs to know which dependencies are still full: those are complete when the kernel starts.
    "hoist-loads",
)
_LAST = (
    # Last: the others add and strengthen dependencies; what is implied is known only then.
    "reduce-edges",
)

EXACT_PIPELINE = ",".join([*_FOLD, *_OVERLAP, *_LAST])
"""Keeps every result bit by bit."""

FAST_PIPELINE = ",".join(
    [
        *_FOLD,
        # Then: what is computed once need not be fused twice, and a node goes only while its dependencies are full.
        # Graphs without equal nodes stay the very same.
        "merge-equal-nodes",
        # Before those that follow: on launch order, since what fused kernels depend on is inferred from their own
        # accesses; and before kernels have variants with waits, which no pattern names. Keeps results within its rules'
        # tolerances only, since fused kernels sum in another order.
        "fuse-kernels",
        *_OVERLAP,
        # After all that decides when accesses begin, since bytes are shared on these terms; before reduce-edges, which
        # keeps every order of events. Results stay the same bit by bit, and no dependency is added. Not in `exact`:
        # with its checks, as with those of all that moves buffers, 20,000 nodes take longer than they may.
        "plan-memory",
        *_LAST,
    ]
)
"""Fewer and larger kernels in less memory, for decode steps on a GPU."""

SPLITS_PIPELINE = ",".join(
    [
        # In the place of infer-dependencies, whose work it does as well: nodes change places in launch order as far as
        # the hazards allow, and copies are for the hazards, too. Not in the others: graphs with host calls would get
        # another order there, and nobody asked for it.
        "fuse-splits",
        *_OVERLAP[1:],
        *_LAST,
    ]
)
"""For programs with nodes on the host: after `place`, which needs to be told what goes there. Keeps every bit."""

RAGGED_PIPELINE = ",".join(
    [
        *_FOLD,
        # On launch order, since what the new nodes depend on is inferred from their own accesses. Not in `fast`: it
        # needs to know how many SMs the GPU has, and graphs would get new state.
        "fuse-persistent",
        *_OVERLAP,
        *_LAST,
    ]
)
"""For steps over ragged batches. Keeps results within the tolerances of its rules only."""

NAMED_PIPELINES: Mapping[str, str] = MappingProxyType(
    {"exact": EXACT_PIPELINE, "fast": FAST_PIPELINE, "splits": SPLITS_PIPELINE, "ragged": RAGGED_PIPELINE}
)
"""What stands for a pipeline wherever it occurs in a pipeline's text."""


def name_of(text: str) -> str:
    """The name of the pipeline that a text spells out, whatever tuning is applied after it; empty if it has none.

    Example:
        >>> name_of("fold-params,infer-dependencies,insert-pdl,hoist-loads,reduce-edges,apply-tuning")
        'exact'
    """
    bare = text.partition(",apply-tuning")[0]
    return next((name for name, known in NAMED_PIPELINES.items() if known == bare), "")
