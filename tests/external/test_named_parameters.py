"""Parameters of captured kernels that get names: which may, and what the driver is told."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest

import forerun
from forerun.ir.contents import bytes_of_numbers
from forerun.ir.types import DType
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.capture.fake import FakeCuda
from tests.runtime.cuda.capture.test_reading_and_clones import live, pointer


def f32(value: float) -> bytes:
    return bytes_of_numbers(DType.F32, [value])


@pytest.fixture
def cuda() -> FakeCuda:
    """Three launches of a kernel whose text is not known, with a factor and a count."""
    found = FakeCuda()
    found.add_function(8, "saxpy", [8, 4, 4])
    for node, factor in ((1, 0.5), (2, 0.5), (3, 2.0)):
        found.add_kernel(node, 8, pointer("x"), f32(factor), (7).to_bytes(4, "little"))
    found.connect(1, 2)
    found.connect(2, 3)
    return found


def optimized(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    return forerun.optimize(live(cuda, monkeypatch), pipeline="")


def told(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[bytes]]]:
    """The nodes whose parameters the driver is given in an executable, with these, filled in as it is told."""
    found: list[tuple[int, list[bytes]]] = []

    def take(executable: Any, node: Any, params: Any) -> tuple[int]:
        table = (ctypes.c_void_p * 3).from_address(params.kernelParams)
        sizes = (8, 4, 4)
        found.append((int(node), [ctypes.string_at(at, size) for at, size in zip(table, sizes, strict=True)]))
        return (0,)

    monkeypatch.setattr(cuda, "cuGraphExecKernelNodeSetParams", take, raising=False)
    return found


def test_all_nodes_with_the_name_are_changed(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    given = told(cuda, monkeypatch)
    with optimized(cuda, monkeypatch) as graph:
        assert dict(graph.parameters) == {}
        graph.name_parameter("scale", "f32", kernel="saxpy", parameter=1, nodes=["n0", "n1"])
        graph.name_parameter("count", "i32", kernel="saxpy", parameter=2)
        assert dict(graph.parameters) == {"scale": 0.5, "count": 7}
        assert graph.parameters.nodes("count") == ("n0", "n1", "n2")
        graph.parameters["scale"] = 0.25
        assert given == [(node, [pointer("x"), f32(0.25), (7).to_bytes(4, "little")]) for node in (501, 502)]
        given.clear()
        graph.parameters["count"] = 9
        factors = (0.25, 0.25, 2.0)
        nine = (9).to_bytes(4, "little")
        expected = [(501 + i, [pointer("x"), f32(factor), nine]) for i, factor in enumerate(factors)]
        assert given == expected


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"kernel": "saxpi"}, InvalidInput, "no node launches 'saxpi'\nhint: did you mean 'saxpy'"),
    ({"parameter": 3}, InvalidInput, "'saxpy' has 3 parameters, and none of number 3"),
    ({"parameter": -1}, InvalidInput, "none of number -1"),
    ({"dtype": "f16"}, InvalidInput, "has 4 bytes, which f16 has not"),
    ({"dtype": "float99"}, InvalidInput, "is not an element type"),
    ({"parameter": 0, "dtype": "i64"}, Unsupported, "has 8 bytes, and may be a pointer"),
    ({"nodes": None}, InvalidInput, "parameter 1 of 'saxpy' has 2 values in nodes n0, n1, n2"),
    ({"nodes": ["n7"]}, InvalidInput, "node 'n7' does not launch 'saxpy'"),
    ({"nodes": []}, InvalidInput, "no nodes are named"),
]


@pytest.mark.parametrize(("changes", "error", "said"), WRONG)
def test_what_gets_no_name(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    given = {"dtype": "f32", "kernel": "saxpy", "parameter": 1, "nodes": ["n0"], **changes}
    with optimized(cuda, monkeypatch) as graph:
        with pytest.raises(error, match=said):
            graph.name_parameter("scale", **given)
        assert dict(graph.parameters) == {}


def test_a_name_is_given_once_and_values_are_checked(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    given = told(cuda, monkeypatch)
    with optimized(cuda, monkeypatch) as graph:
        graph.name_parameter("count", "i32", kernel="saxpy", parameter=2)
        with pytest.raises(InvalidInput, match="'count' exists already"):
            graph.name_parameter("count", "i32", kernel="saxpy", parameter=2)
        for name, value, said in (("count", 2**31, "not in"), ("count", 1.5, "not an integer"), ("c", 1, "named 'c'")):
            with pytest.raises(InvalidInput, match=said):
                graph.parameters[name] = value
        assert given == []
    with pytest.raises(InvalidInput, match="is closed"):
        graph.parameters["count"] = 8


def test_what_the_driver_refuses_changes_nothing(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch) as graph:
        graph.name_parameter("count", "i32", kernel="saxpy", parameter=2)
        calls: list[int] = []

        def refuse(executable: Any, node: Any, params: Any) -> tuple[int]:
            calls.append(int(node))
            return (1 if len(calls) == 2 else 0,)

        monkeypatch.setattr(cuda, "cuGraphExecKernelNodeSetParams", refuse, raising=False)
        with pytest.raises(forerun.ForerunError):
            graph.parameters["count"] = 8
        assert calls == [501, 502, 501]
        assert graph.parameters["count"] == 7


def test_what_a_proof_rests_on_gets_no_name(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch) as graph:
        weighed = {"n1": frozenset({2})}
        decision = replace(graph._rewritten.decision, imported=replace(graph.imported, weighed=weighed))
        graph._rewritten = replace(graph._rewritten, decision=decision)
        with pytest.raises(Unsupported, match="which bytes node 'n1' accesses depends on parameter 2"):
            graph.name_parameter("count", "i32", kernel="saxpy", parameter=2)
