"""The pipelines that benchmarks of decode steps compare, and the tuning files that they use."""

from __future__ import annotations

from pathlib import Path

from forerun.passes.infra.named_pipelines import FAST_PIPELINE

__all__ = ["ABLATION", "FULL_EDGES", "own_tuning", "tuning_for"]

FULL_EDGES = "fuse-kernels,infer-dependencies,reduce-edges"
"""The kernels of ``fast`` with nothing that starts early."""

ABLATION = {
    "full": "infer-dependencies,reduce-edges",
    "edges": "infer-dependencies,insert-pdl{trigger=end},reduce-edges",
    "wait_trigger": "infer-dependencies,insert-pdl{trigger=start},reduce-edges",
    "hoist_nc": "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
    "hoist": "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
    "fused": "fuse-kernels,infer-dependencies,insert-pdl,reduce-edges",
    "rings": FAST_PIPELINE,
}
"""What each pass brings, a row a version."""

_CONTEXT = 1024


def own_tuning(file: Path, context: int) -> Path:
    """The tuning file for graphs of that many positions, where one is named for graphs of 1,024."""
    return file if context == _CONTEXT else file.with_stem(f"{file.stem}-{context}")


def tuning_for(file: Path, context: int) -> Path:
    """The same if it is there, or else the named one: most of its choices do not depend on the positions."""
    own = own_tuning(file, context)
    return own if own.exists() else file
