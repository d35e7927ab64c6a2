"""``forerun.optimize(callable)`` and ``forerun.torch.optimize``: what is captured, copied, told apart and refused."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import forerun
import forerun.torch
from forerun.external import optimize as optimizing
from forerun.external.optimized import OptimizedCall
from forerun.runtime.cuda.capture import session as sessions
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.external.fake_torch import FakeTorch, Module, Tensor


class Clone:
    """Replays the program's graph itself."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.closed = False

    def replay(self, stream: Any) -> None:
        self.source.replay()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    found = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", found)
    monkeypatch.setattr(sessions, "_latest", SimpleNamespace(graph=lambda source: SimpleNamespace(source=source)))
    monkeypatch.setattr(
        optimizing, "_rewrite", lambda captured, *options: SimpleNamespace(clone=Clone(captured.source))
    )
    return found


def tensor(*values: float, **options: Any) -> Tensor:
    return Tensor(np.array(values, dtype=np.float32), **options)


def values(one: Any) -> list[float]:
    found: list[float] = one.data.tolist()
    return found


def test_a_callable_is_captured_with_its_own_arguments(torch: FakeTorch) -> None:
    x, calls = tensor(1, 2), []

    def work(one: Tensor, factor: float) -> dict[str, Tensor]:
        calls.append(factor)
        return {"twice": one * factor}

    found = forerun.optimize(work, x, 2.0)
    assert isinstance(found, OptimizedCall)
    assert found.inputs == (x, 2.0)
    assert len(calls) == 4  # three runs before the capture
    assert torch.forks == 1
    assert found._kept == (work,)
    x.data[:] = 5, 7
    found.replay()
    assert values(found.outputs["twice"]) == [10, 14]
    with found as same:
        assert same is found
    assert found._rewritten.clone.closed  # type: ignore[attr-defined]


def test_later_calls_copy_into_the_graph_and_replay(torch: FakeTorch) -> None:
    runs = []

    @forerun.torch.optimize
    def work(one: Tensor, *, other: Tensor) -> tuple[Tensor, str]:
        """Adds."""
        runs.append(1)
        return one + other, "a word"

    assert (work.__name__, work.__doc__) == ("work", "Adds.")
    first, word = work(tensor(1, 2), other=tensor(3, 4))
    assert (values(first), word) == ([4, 6], "a word")
    second, _ = work(tensor(10, 20), other=tensor(1, 1))
    assert values(second) == [11, 21]
    (graph,) = work.graphs.values()
    assert graph.named_inputs.keys() == {"other"}
    # Results are tensors of their own.
    assert values(first) == [4, 6]
    assert len(runs) == 4
    (graph,) = work.graphs.values()
    assert graph._rewritten.clone.source.replays == 2
    work.close()
    assert not work.graphs
    assert graph._rewritten.clone.closed  # type: ignore[attr-defined]
    work(tensor(1, 2), other=tensor(3, 4))
    assert len(runs) == 8


def test_results_may_be_those_of_the_graph(torch: FakeTorch) -> None:
    work = forerun.torch.optimize(lambda one: one * 2, copy_outputs=False)
    first = work(tensor(1))
    assert work(tensor(3)) is first
    assert values(first) == [6]


def test_each_kind_of_arguments_has_a_graph(torch: FakeTorch) -> None:
    work = forerun.torch.optimize(lambda one, factor=1.0: one * factor, max_graphs=20)
    for count, arguments in enumerate(
        [
            (tensor(1, 2),),
            (tensor(1, 2, 3),),
            (Tensor(np.array([1, 2], dtype=np.float64)),),
            (tensor(1, 2), 2.0),
            (tensor(1, 2), 2),
            (tensor(1, 2), True),
            (tensor(1, 2), 0.0),
            (tensor(1, 2), -0.0),
            ((tensor(1, 2)), float("nan")),
            (Tensor(np.zeros((2, 3)).T),),
            (Tensor(np.zeros((3, 2))),),
        ],
        start=1,
    ):
        work(*arguments)
        assert len(work.graphs) == count
        work(*arguments)
        assert len(work.graphs) == count
    known = len(work.graphs)
    for number, mode in enumerate(("grad", "inference", "autocast"), start=1):
        setattr(torch, mode, True)
        work(tensor(1, 2))
        assert len(work.graphs) == known + number


def test_modules_have_graphs_for_training_and_not(torch: FakeTorch) -> None:
    class Scale(Module):
        def __init__(self) -> None:
            self.weight = tensor(2, 3)

        def forward(self, one: Tensor) -> Tensor:
            return one + self.weight

    module = Scale()
    work = forerun.torch.optimize(module)
    assert values(work(tensor(1, 1))) == [3, 4]
    module.training = True
    work(tensor(1, 1))
    assert len(work.graphs) == 2
    assert all(graph._kept == (module, module.weight) for graph in work.graphs.values())


def test_methods_are_bound(torch: FakeTorch) -> None:
    class Model:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @forerun.torch.optimize(max_graphs=2)
        def step(self, one: Tensor) -> Tensor:
            return one * self.factor

    models = Model(2), Model(3)
    assert [values(model.step(tensor(5))) for model in models for _ in range(2)] == [[10], [10], [15], [15]]
    assert len(Model.step.graphs) == 2


def test_too_many_kinds_are_refused(torch: FakeTorch) -> None:
    work = forerun.torch.optimize(lambda one: one * 2, max_graphs=2)
    for count in (1, 2):
        work(tensor(*range(count)))
    with pytest.raises(Unsupported, match="more than 2 kinds of arguments") as caught:
        work(tensor(1, 2, 3))
    assert "pad the arguments" in str(caught.value)
    assert values(work(tensor(4))) == [8]
    with pytest.raises(InvalidInput, match="at least 1"):
        forerun.torch.optimize(lambda: 0, max_graphs=0)
    with pytest.raises(InvalidInput, match="str cannot be called"):
        forerun.torch.optimize("model")  # type: ignore[call-overload]


def test_gradients_are_refused(torch: FakeTorch) -> None:
    weight = tensor(1, requires_grad=True)
    work = forerun.torch.optimize(lambda one: one + weight)
    assert values(work(tensor(2))) == [3]
    torch.grad = True
    # The graph of before records no gradients, so it is not taken here.
    with pytest.raises(InvalidInput, match="results of the callable want gradients"):
        work(tensor(2))
    with pytest.raises(InvalidInput, match="arguments of the callable want gradients") as caught:
        work(weight)
    assert "torch.no_grad()" in str(caught.value)
    with pytest.raises(InvalidInput, match="arguments of the callable want gradients"):
        forerun.optimize(lambda one: one, weight)


def test_what_is_written_into_arguments_is_refused(torch: FakeTorch) -> None:
    x = tensor(1, 2)
    work = forerun.torch.optimize(lambda one: one.add_(1))
    with pytest.raises(InvalidInput, match="writes into its arguments"):
        work(x)
    assert values(x) == [1, 2]
    assert not work.graphs


def test_tensors_elsewhere_are_refused(torch: FakeTorch) -> None:
    for device in ("cpu:0", "cuda:1"):
        with pytest.raises(InvalidInput, match="a tensor of the arguments is on") as caught:
            forerun.torch.optimize(lambda one: one)({"a": [tensor(1, device=device)]})
        assert "tensor.to('cuda:0')" in str(caught.value)
    sparse = tensor(1)
    sparse.layout = "sparse_coo"
    with pytest.raises(InvalidInput, match="has the layout sparse_coo"):
        forerun.torch.optimize(lambda one: one)(sparse)


def test_arguments_that_cannot_be_told_apart_are_refused(torch: FakeTorch) -> None:
    with pytest.raises(InvalidInput, match="cannot tell one graph from another"):
        forerun.torch.optimize(lambda one: one)({1, 2})


def test_what_torch_cannot_capture_is_refused(torch: FakeTorch) -> None:
    torch.refuses = "CUDA error: operation not permitted when stream is capturing\nmore"
    with pytest.raises(Unsupported, match="torch cannot capture the callable: CUDA error: operation not") as caught:
        forerun.optimize(lambda: 0)
    assert "more" not in str(caught.value).partition("hint")[0].partition("capturing")[2].splitlines()[0]


def test_without_a_session_nothing_runs(torch: FakeTorch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_latest", None)
    runs: list[int] = []
    for call in (lambda: forerun.optimize(runs.append, 1), lambda: forerun.torch.optimize(runs.append)(1)):
        with pytest.raises(Unsupported, match="were not seen when they were loaded"):
            call()
    assert not runs


def test_without_torch_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(sessions, "_latest", SimpleNamespace())
    work = forerun.torch.optimize(lambda: 0)
    with pytest.raises(Unsupported, match="torch is not installed") as caught:
        work()
    assert "pip install torch" in str(caught.value)
    with pytest.raises(Unsupported, match="torch is not installed"):
        forerun.optimize(lambda: 0)


def test_without_a_gpu_it_is_said(torch: FakeTorch) -> None:
    torch.cuda.is_available = lambda: False
    with pytest.raises(Unsupported, match="torch sees no CUDA GPU"):
        forerun.torch.optimize(lambda: 0)()


def test_importing_forerun_imports_no_torch() -> None:
    script = (
        "import sys, forerun; forerun.torch.optimize; print('torch' in sys.modules, 'forerun.torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
