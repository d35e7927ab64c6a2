"""Tests of fusion rules: whether a rule applies, is legal where it does, and computes the same within its tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.ir.buffer import Buffer
from forerun.ir.fusion import FusionRule, fusion_rules
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole, DType
from forerun.passes.fuse_kernels import FuseKernels, fused
from forerun.passes.infra.base import PassContext
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.reference import ReferenceTarget
from forerun.testing.counterexample import Counterexample
from forerun.testing.oracles import assert_refines, assert_valid

__all__ = ["assert_close_outputs", "check_rule"]

_PRECISION = {DType.BF16: 2.0**-8, DType.F16: 2.0**-11}
"""How far neighbours of a type are apart: where a result is rounded to it, the last digit may differ."""


def check_rule(rule: FusionRule | str, examples: int = 20, seed: int = 0) -> None:
    """Assert that a fusion rule applies to its examples, is proved there, and keeps the values within its tolerance.

    Args:
        rule: A rule, or its name.
        examples: How many graphs are made with ``rule.example``.
        seed: Where the random sizes and values begin.

    Raises:
        Counterexample: If the rule does not apply to an example, what it makes of it is not proved to mean the same, or
            computes something else.

    Example:
        >>> check_rule("projection-add", examples=2)
    """
    chosen = fusion_rules()[rule] if isinstance(rule, str) else rule
    for number in range(examples):
        random = Random(f"{chosen.name} {seed} {number}")
        before = chosen.example(random)
        assert_valid(before)
        context = PassContext(FuseKernels())
        after = fused(before, [chosen], context)
        if not context.applications:
            reasons = "\n".join(f"{remark.location}: {remark.message}" for remark in context.remarks)
            raise Counterexample("applies", f"rule '{chosen}' does not apply to its example", before, details=reasons)
        assert_refines(before, after)
        assert_close_outputs(before, after, chosen.tolerance, random.randrange(1 << 30))


def assert_close_outputs(before: Graph, after: Graph, tolerance: float, seed: int = 0) -> None:
    """Assert that two graphs compute the same from random values: outputs and state after each of two replays.

    Args:
        before: A graph that the reference target can run.
        after: What was made of it.
        tolerance: How far a result may be off, relative to the greatest magnitude in its buffer. Integers are equal;
            bf16 and f16 may differ in the last digit.
        seed: Of the values: normal ones, and integers within their bounds.

    Raises:
        Counterexample: If something differs by more.
    """
    expected, found = (_observed(before, graph, seed) for graph in (before, after))
    for name, wanted in expected.items():
        buffer = before.buffers[name.split()[-1]]
        allowed = (tolerance + _PRECISION.get(buffer.dtype, 0.0)) if buffer.dtype.is_float else 0.0
        off = _relative(wanted, found[name])
        if not off <= allowed:
            finding = f"{name} is off by {off:.2g} of its greatest magnitude; {allowed:.2g} is allowed"
            shown = f"expected {wanted.tolist()}\nfound    {found[name].tolist()}"
            raise Counterexample("close-outputs", finding, before, after, details=shown)


def _relative(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    first, second = (np.asarray(a, np.float64) for a in (wanted, found))
    difference = np.abs(first - second).max(initial=0.0)
    scale = np.abs(first).max(initial=0.0)
    return float(difference / scale) if scale else float(difference)


def _observed(before: Graph, graph: Graph, seed: int) -> dict[str, NDArray[Any]]:
    """Outputs and state of two replays, which begin with random state."""
    values = np.random.default_rng(seed)
    weights = {n: v for n, v in _values(before, values, BufferRole.WEIGHT).items() if before.buffers[n].needs_value}
    state = _values(before, values, BufferRole.STATE)
    found: dict[str, NDArray[Any]] = {}
    program = ReferenceTarget().load(graph, weights)
    try:
        for name, value in state.items():
            program.write(name, value)
        for replay in (1, 2):
            outputs = program.run(_values(before, values, BufferRole.INPUT, BufferRole.PARAM))
            found |= {f"replay {replay}, output {name}": value for name, value in outputs.items()}
            found |= {f"replay {replay}, state {name}": program.read(name) for name in state}
    finally:
        program.close()
    return found


def _values(graph: Graph, values: np.random.Generator, *roles: BufferRole) -> Mapping[str, NDArray[Any]]:
    return {b.name: _value(b, values) for b in graph.buffers.values() if b.role in roles}


def _value(buffer: Buffer, values: np.random.Generator) -> NDArray[Any]:
    low, high = buffer.bounds or (0, 99)
    drawn: NDArray[Any]
    drawn = values.normal(size=buffer.shape) if buffer.dtype.is_float else values.integers(low, high + 1, buffer.shape)
    if buffer.ascending:
        drawn = np.sort(drawn, axis=None).reshape(buffer.shape)
    return drawn.astype(numpy_dtype(buffer.dtype))
