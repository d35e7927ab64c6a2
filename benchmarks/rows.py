"""The pipelines that benchmarks of decode steps compare."""

from __future__ import annotations

from forerun.passes.default import FAST_PIPELINE

__all__ = ["ABLATION", "FULL_EDGES"]

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
