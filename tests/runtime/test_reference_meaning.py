"""The checker and the adversarial schedules have one meaning: what is proved gives the same bits everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.semantics import check
from forerun.ir.trust import vouch
from forerun.runtime.reference import ReferenceTarget
from tests.programs import Style, programs
from tests.strategies import portion

pytestmark = pytest.mark.slow

few = settings(portion(70), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
SEEDS = range(4)
vouch(__name__)


def __getattr__(name: str) -> Callable[..., Any]:
    """Functions ``mix_W_G``: W is the number of elements to write (``s``: as the scalar says, ``x``: none)."""
    match = re.fullmatch(r"mix_(\d+|s|x)_(\d+)", name)
    if match is None:
        raise AttributeError(name)
    count, gives = match.group(1), int(match.group(2))

    def mix(*arguments: Any) -> Any:
        scalar = arguments[-1]
        mixed = 17
        for argument in arguments:
            for value in np.atleast_1d(argument).tolist():
                mixed = (mixed * 31 + value) % 1_000_003
        results: list[Any] = []
        if count != "x":
            size = scalar if count == "s" else int(count)
            results.append((mixed + np.arange(size)).astype(np.int32))
        results += [mixed + i for i in range(gives)]
        return results[0] if len(results) == 1 else tuple(results) if results else None

    return mix


def executable(graph: Graph, late: bool) -> Graph:
    """The graph with a reference function for each phase, and at most one role a kernel.

    What the roles of one kernel do to each other's bytes is not the checker's business, so one role is kept.
    """
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and (kernel := graph.kernels[node.kernel]).roles:
            sizes = {
                name: graph.buffers[argument.buffer].count
                for name, argument in node.arguments
                if isinstance(argument, BufferArgument)
            }
            edit.set_kernel(_with_functions(kernel, sizes, late))
    return edit.commit()


def _with_functions(kernel: Kernel, sizes: dict[str, int], late: bool) -> Kernel:
    assert kernel.roles is not None
    role = kernel.roles[0]
    # An asynchronous read and a later write of the same kernel race with each other; again, no business of the checker.
    late = late and not any(phase.writes for phase in role.phases)
    steps = [_with_function(s, sizes, late) if isinstance(s, Phase) else s for s in role.steps]
    return kernel.with_roles(kernel.name, (replace(role, steps=tuple(steps)),))


def _with_function(phase: Phase, sizes: dict[str, int], late: bool) -> Phase:
    size = "x"
    for access in phase.writes:
        bounds = access.region.slices[0] if access.region.slices else None
        if bounds is None:
            size = str(sizes[access.parameter])
        elif (bounds.stop - bounds.start).is_constant:
            size = str((bounds.stop - bounds.start).constant)
        else:
            size = "s"
    reference = f"{__name__}:mix_{size}_{len(phase.defines)}"
    return replace(phase, scalars=("s",), reference=reference, asynchronous=late and bool(phase.defines))


def final_state(graph: Graph, target: ReferenceTarget, position: int) -> list[bytes]:
    program = target.load(graph, {})
    for _ in range(2):
        program.run({"pos": position})
    return [program.read(name).tobytes() for name in graph.buffers]


@few
@given(programs(Style(opaque=False, most_nodes=5)), st.integers(0, 1), st.booleans())
def test_what_is_proved_has_one_outcome(graph: Graph, position: int, late: bool) -> None:
    graph = executable(graph, late)
    verdict = check(graph)
    event(verdict.status)
    assume(verdict.proved)
    expected = final_state(graph, ReferenceTarget(), position)
    for seed in SEEDS:
        assert final_state(graph, ReferenceTarget("adversarial", seed), position) == expected


@settings(few, max_examples=30)
@given(programs(Style(opaque=False, chain=True)), st.integers(0, 1), st.integers(0, 99))
def test_full_dependencies_leave_nothing_open(graph: Graph, position: int, seed: int) -> None:
    graph = executable(graph, late=True)
    expected = final_state(graph, ReferenceTarget(), position)
    assert final_state(graph, ReferenceTarget("adversarial", seed), position) == expected
