"""For authors of passes: random graphs that run, and oracles that judge what a pass makes of them.

Strategies for Hypothesis: :func:`graphs`, :func:`rare_graphs`, :func:`kernels`, :func:`pipelines`, :func:`schedules`.
Oracles: :func:`assert_valid`, :func:`assert_refines`, :func:`assert_same_outputs`, :func:`assert_close_outputs`,
:func:`assert_idempotent`, :func:`assert_roundtrip`; of fusion rules, :func:`check_rule`; of machine code,
:func:`assert_hoists_survive`. All of them at once, on a pass: ``pytest --forerun-pass mypkg.MyPass``, ``forerun fuzz``,
or :func:`search`. See docs/testing-passes.md. Names load on first use, and pytest is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.testing.counterexample import Counterexample
    from forerun.testing.fusion import assert_close_outputs, check_rule
    from forerun.testing.graph_strategy import graphs
    from forerun.testing.hoists import assert_hoists_survive
    from forerun.testing.kernel_strategy import KernelShape, kernels
    from forerun.testing.oracles import (
        assert_idempotent,
        assert_refines,
        assert_roundtrip,
        assert_same_outputs,
        assert_valid,
    )
    from forerun.testing.pipeline_strategy import pipelines, schedules
    from forerun.testing.properties import PROPERTIES, assert_properties
    from forerun.testing.random_values import inputs_of, weights_of
    from forerun.testing.rare_strategy import rare_graphs
    from forerun.testing.searching import SearchResult, search

_NAMES = {
    "counterexample": ["Counterexample"],
    "fusion": ["assert_close_outputs", "check_rule"],
    "graph_strategy": ["graphs"],
    "hoists": ["assert_hoists_survive"],
    "kernel_strategy": ["KernelShape", "kernels"],
    "oracles": ["assert_idempotent", "assert_refines", "assert_roundtrip", "assert_same_outputs", "assert_valid"],
    "pipeline_strategy": ["pipelines", "schedules"],
    "properties": ["PROPERTIES", "assert_properties"],
    "random_values": ["inputs_of", "weights_of"],
    "rare_strategy": ["rare_graphs"],
    "searching": ["SearchResult", "search"],
}
_EXPORTS = {name: f"forerun.testing.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "PROPERTIES",
    "Counterexample",
    "KernelShape",
    "SearchResult",
    "assert_close_outputs",
    "assert_hoists_survive",
    "assert_idempotent",
    "assert_properties",
    "assert_refines",
    "assert_roundtrip",
    "assert_same_outputs",
    "assert_valid",
    "check_rule",
    "graphs",
    "inputs_of",
    "kernels",
    "pipelines",
    "rare_graphs",
    "schedules",
    "search",
    "weights_of",
]

__getattr__ = lazy_exports(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
