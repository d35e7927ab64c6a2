"""Adversarial schedules: right programs give the same bits under all of them, wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Role, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole
from forerun.kernels import add, attention, gemv, rmsnorm, rope_append
from forerun.runtime.reference import ReferenceTarget
from tests.runtime.support import (
    F32,
    I32,
    PROGRAMMATIC,
    adversarial,
    with_kinds,
)

SEEDS = range(20)
Rewrite = Callable[[tuple[Step, ...]], tuple[Step, ...]]


def trigger_then_wait_before(name: str) -> Rewrite:
    """Triggers at the start, and waits just before the phase of that name."""

    def rewrite(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        at = [getattr(step, "name", "") for step in steps].index(name)
        return (Trigger(), *steps[:at], Wait(), *steps[at:])

    return rewrite


def with_body(graph: Graph, node: str, rewrite: Rewrite) -> Graph:
    """The graph with another body for the kernel of one node."""
    edit = graph.edit()
    present = edit.node(node)
    assert isinstance(present, KernelNode)
    kernel = graph.kernels[present.kernel]
    assert kernel.roles is not None
    roles = tuple(Role(role.name, rewrite(role.steps)) for role in kernel.roles)
    variant = edit.kernel_variant(kernel, roles, "variant")
    edit.replace_node(KernelNode(present.name, variant.name, present.arguments))
    edit.drop_unused_kernels()
    return edit.commit()


def chain_to_programmatic(graph: Graph) -> Graph:
    return with_kinds(graph, PROGRAMMATIC, *(d.pair for d in graph.dependencies))


# A layer of a model, with programmatic dependencies throughout

WIDTH, HEADS, SIZE, LENGTH = 8, 2, 4, 6
FIRST_NEEDED = {
    "norm": "normalize",
    "q": "dot",
    "k": "dot",
    "v": "dot",
    "rope": "rotate_append",
    "attend": "attend",
    "out": "dot",
    "add": "load",
}


def layer() -> Graph:
    make = GraphBuilder("layer")
    make.input("x", F32, (WIDTH,))
    make.input("pos", I32, (1,), bounds=(0, LENGTH - 1))
    for name in ("wq", "wk", "wv", "wo"):
        make.weight(name, F32, (WIDTH, WIDTH))
    make.weight("scale", F32, (WIDTH,))
    make.weight("frequencies", F32, (SIZE // 2,))
    for name in ("k_cache", "v_cache"):
        make.state(name, F32, (LENGTH, HEADS, SIZE))
    make.temp("h", F32, (WIDTH,))
    for name in ("q", "k", "v", "q_rotated", "attended"):
        make.temp(f"{name}_flat", F32, (WIDTH,))
        flat = make._buffers[f"{name}_flat"]
        make.buffer(name, F32, (HEADS, SIZE), BufferRole.TEMP, allocation=flat.allocation)
    make.temp("o", F32, (WIDTH,))
    make.output("y", F32, (WIDTH,))
    pos = ScalarLoad("pos")
    make.launch(rmsnorm.KERNEL, x="x", w="scale", y="h", eps=1e-5, node="norm")
    for name in ("q", "k", "v"):
        make.launch(gemv.KERNEL, w=f"w{name}", x="h", y=f"{name}_flat", node=name)
    make.launch(
        rope_append.KERNEL,
        q="q",
        k="k",
        v="v",
        frequencies="frequencies",
        q_out="q_rotated",
        k_cache="k_cache",
        v_cache="v_cache",
        pos=pos,
        node="rope",
    )
    caches = {"k_cache": "k_cache", "v_cache": "v_cache"}
    make.launch(attention.KERNEL, q="q_rotated", **caches, y="attended", pos=pos, node="attend")
    make.launch(gemv.KERNEL, w="wo", x="attended_flat", y="o", node="out")
    make.launch(add.KERNEL, a="o", b="x", y="y", node="add")
    return make.build()


def pdl_layer() -> Graph:
    graph = layer()
    for node, name in FIRST_NEEDED.items():
        graph = with_body(graph, node, trigger_then_wait_before(name))
    return chain_to_programmatic(graph)


def layer_values() -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    chooser = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray:
        return chooser.normal(size=shape).astype(np.float32)

    weights = {name: normal(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")}
    weights |= {"scale": normal(WIDTH), "frequencies": normal(SIZE // 2)}
    return weights, [{"x": normal(WIDTH), "pos": position} for position in range(3)]


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    weights, steps = layer_values()
    program = ReferenceTarget().load(layer(), weights)
    return [program.run(step)["y"].tobytes() for step in steps]


def test_a_right_program_gives_the_same_bits_under_every_schedule(expected: list[bytes]) -> None:
    weights, steps = layer_values()
    graph = pdl_layer()
    assert check(graph).proved
    for seed in SEEDS:
        program = ReferenceTarget("adversarial", seed, h6=seed % 3 == 0).load(graph, weights)
        assert [program.run(step)["y"].tobytes() for step in steps] == expected


def test_schedules_differ_and_overlap_nodes() -> None:
    weights, steps = layer_values()
    schedules = {adversarial(pdl_layer(), steps[0], seed, weights)[1].actions for seed in SEEDS}
    assert len(schedules) > 0.9 * len(SEEDS)
    early = {next(i for i, action in enumerate(s) if action.node == "out") for s in schedules}
    assert min(early) == 0
    assert any(action.part for s in schedules for action in s), "no store became visible in pieces"


PLANTED = {
    # The key row of this step is read before the wait, although the node in front appends it.
    "wrong-hoist": ("attend", lambda steps: (*(s for s in steps if not isinstance(s, Wait)), Wait())),
    "missing-wait": ("out", lambda steps: tuple(s for s in steps if not isinstance(s, Wait))),
    # Nothing is read too early: the middle of a chain does not wait, and its end is released too early.
    "broken-chain": ("k", lambda steps: tuple(s for s in steps if not isinstance(s, Wait))),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_shows_and_its_schedule_replays(name: str, expected: list[bytes]) -> None:
    weights, steps = layer_values()
    node, rewrite = PLANTED[name]
    graph = with_body(pdl_layer(), node, rewrite)
    assert check(graph).status == "refuted"
    wrong = []
    for seed in SEEDS:
        found, schedule = adversarial(graph, steps[0], seed, weights)
        if found["y"].tobytes() != expected[0]:
            wrong.append(seed)
            again = ReferenceTarget(schedule).load(graph, weights)
            assert again.run(steps[0])["y"].tobytes() == found["y"].tobytes()
            assert again.last_schedule == schedule
    assert len(wrong) >= 5, "a bug that shows this rarely is not caught in practice"


def test_each_replay_draws_anew_and_reset_starts_over() -> None:
    weights, steps = layer_values()
    program = ReferenceTarget("adversarial", 1).load(pdl_layer(), weights)
    drawn = []
    for _ in range(2):
        for step in steps[:2]:
            program.run(step)
            assert program.last_schedule is not None
            drawn.append((program.last_schedule.replay, program.last_schedule.actions))
        program.reset()
    assert drawn[:2] == drawn[2:]
    assert drawn[0][1] != drawn[1][1]
    assert [replay for replay, _ in drawn] == [0, 1, 0, 1]
