"""Plans on the reference target: updates, state, errors before anything changes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Dependency, Graph
from forerun.ir.types import DependencyKind
from forerun.runtime.plans import Plan, Way
from forerun.support.diagnostics import InvalidInput, Refuted, Unsupported
from tests.runtime.plans.samples import N, chain, decode, scale, shift, with_argument, with_edge, with_launch

X = {"x": [1, 2, 3, 4]}


def y_of(plan: Plan) -> list[int]:
    return plan.run(X)["y"].tolist()  # type: ignore[no-any-return]


def test_the_ways_of_an_update() -> None:
    first = chain([1, 2, 3])
    with Plan(first) as plan:
        assert y_of(plan) == [6, 12, 18, 24]
        assert plan.update(first).way is Way.REUSED
        assert plan.update(chain([1, 2, 3])).way is Way.REUSED
        assert plan.update(chain([1, 2, 3], names="k")).way is Way.REUSED
        assert str(plan.update(chain([1, 5, 3]))) == "parameters: argument 's' changed at n1"
        assert y_of(plan) == [15, 30, 45, 60]
        assert plan.update(chain([1, 5, 3], kernels=[shift])).way is Way.PARAMETERS
        assert y_of(plan) == [30, 45, 60, 75]
        assert str(plan.update(chain([2, 2]))) == "instantiated: 2 nodes, and 3 before"
        assert y_of(plan) == [4, 8, 12, 16]
        assert plan.ways == {Way.REUSED: 3, Way.PARAMETERS: 2, Way.INSTANTIATED: 1}


def test_an_edited_graph_is_known_by_its_edits() -> None:
    base = chain([1, 2, 3])
    with Plan(base) as plan:
        for value in range(4, 8):
            update = plan.update(with_argument(base, "n1", "s", value))
            assert (update.way, update.changed, update.proof) == (Way.PARAMETERS, 1, "scalars")
            assert y_of(plan) == [3 * value, 6 * value, 9 * value, 12 * value]
        assert plan.update(base).way is Way.PARAMETERS
        assert y_of(plan) == [6, 12, 18, 24]


def test_state_goes_on_across_updates() -> None:
    with Plan(decode(0)) as plan:
        sums = []
        for row in range(4):
            plan.update(decode(row))
            sums.append(plan.run({"x": [row] * N})["y"].tolist())
        assert sums == [[0] * N, [1] * N, [3] * N, [6] * N]
        # Another graph with the same state: loaded anew, and the rows are still there.
        builder = forerun.GraphBuilder("sum")
        cache, y = builder.state("cache", "i32", (16, N)), builder.output("z", "i32", N)
        from tests.runtime.plans.samples import total

        builder.launch(total, cache=cache, first=0, last=4, y=y)
        assert plan.update(builder.build()).way is Way.INSTANTIATED
        assert plan.run()["z"].tolist() == [6] * N
        plan.reset()
        assert plan.run()["z"].tolist() == [0] * N
        plan.write("cache", np.ones((16, N), np.int32))
        assert plan.read("cache").sum() == 16 * N


def test_what_is_wrong_changes_nothing() -> None:
    base = chain([1, 2, 3])
    with Plan(base) as plan:
        wrong = [
            (with_argument(base, "n1", "s", 1.5), InvalidInput),
            (with_edge(base, "n0", "n1", None), Refuted),
            (with_launch(base, "n1", grid=(0, 1, 1)), InvalidInput),
            ("graph", InvalidInput),
            (None, InvalidInput),
        ]
        for graph, kind in wrong:
            with pytest.raises(kind):
                plan.update(graph)  # type: ignore[arg-type]
            assert plan.graph is base
            assert y_of(plan) == [6, 12, 18, 24]
        broken = base.edit()
        broken.set_dependency(Dependency("n0", "n2", DependencyKind.FULL))
        ghost = Graph("ghost", nodes=base, dependencies=[Dependency("n0", "nobody")])
        with pytest.raises(InvalidInput):
            plan.update(ghost)


def test_a_program_that_cannot_be_closed_has_given_way_all_the_same() -> None:
    with Plan(chain([1, 2, 3])) as plan:
        old = plan._program
        assert old is not None

        def fail() -> None:
            raise Unsupported("cannot close")

        old.close = fail  # type: ignore[method-assign]
        with pytest.raises(Unsupported, match="cannot close"):
            plan.update(chain([2, 2]))
        assert len(plan.graph) == 2
        assert y_of(plan) == [4, 8, 12, 16]


def test_a_closed_plan_says_so() -> None:
    plan = Plan(chain([1]))
    plan.close()
    plan.close()
    assert repr(plan) == "<Plan chain: 1 nodes, closed>"
    assert (plan.in_flight, plan.size_bytes) == (False, 0)
    for use in (
        lambda: plan.run(X),
        lambda: plan.update(plan.graph),
        lambda: plan.update(chain([2])),
        plan.synchronize,
        plan.reset,
        lambda: plan.read("y"),
        lambda: plan.launch(),
        plan.__enter__,
    ):
        with pytest.raises(InvalidInput, match="the plan of graph 'chain' is closed"):
            use()


def test_what_needs_a_gpu() -> None:
    with Plan(chain([1])) as plan:
        plan.synchronize()
        for use in (plan.launch, lambda: plan.buffer("x")):
            with pytest.raises(Unsupported, match="needs a GPU"):
                use()
    with pytest.raises(Unsupported, match="cannot use memory of yours"):
        Plan(chain([1]), memory={"x": object()})


def test_a_graph_that_is_not_proved_is_no_plan() -> None:
    with pytest.raises(Refuted, match="cannot be a plan"):
        Plan(with_edge(chain([1, 2]), "n0", "n1", None))


def test_weights_are_those_of_the_plan() -> None:
    def graph(factor: int, names: tuple[str, ...]) -> forerun.Graph:
        builder = forerun.GraphBuilder("weights")
        for name in names:
            w, y = builder.weight(name, "i32", N), builder.output(f"{name}_y", "i32", N)
            builder.launch(scale, x=w, s=factor, y=y)
        return builder.build()

    weights = {"v": np.full(N, 2, np.int32), "w": np.full(N, 3, np.int32)}
    with Plan(graph(1, ("v", "w")), weights=weights) as plan:
        plan.update(graph(2, ("v",)))
        assert plan.run()["v_y"].tolist() == [4] * N
        with pytest.raises(InvalidInput, match="no value for weight %u"):
            plan.update(graph(2, ("u",)))
        assert plan.run()["v_y"].tolist() == [4] * N
    with pytest.raises(InvalidInput, match="the graph has no weight"):
        Plan(graph(1, ("v",)), weights=weights)


def test_a_function_that_is_defined_again_is_another_one() -> None:
    import sys
    import types

    module = types.ModuleType("notebook_of_plans")
    sys.modules[module.__name__] = module

    def cell(text: str) -> forerun.Graph:
        exec(
            compile(f"import forerun\n@forerun.kernel('x: i32[N] -> y: i32[N]')\ndef f(x):\n    {text}", "c", "exec"),
            module.__dict__,
        )
        builder = forerun.GraphBuilder("cells")
        builder.launch(module.f, x=builder.input("x", "i32", N), y=builder.output("y", "i32", N))
        return builder.build()

    try:
        with Plan(cell("return x + 1")) as plan:
            assert y_of(plan) == [2, 3, 4, 5]
            after = cell("return x + 2")
            assert str(plan.update(after)) == "instantiated: function 'notebook_of_plans:f' was defined again"
            assert y_of(plan) == [3, 4, 5, 6]
            assert plan.update(after).way is Way.REUSED
    finally:
        del sys.modules[module.__name__]


def test_any_thread_may_use_a_plan() -> None:
    base = chain([1, 2, 3])
    errors: list[BaseException] = []
    with Plan(base) as plan:

        def work(number: int) -> None:
            try:
                for i in range(20):
                    plan.update(with_argument(base, f"n{i % 3}", "s", number + i))
                    plan.run(X)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
