"""Captured launches of attention become persistent kernels: which are found, what is refused, and what runs instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import forerun
from forerun.captured import CapturedEdge, CapturedFunction, CapturedGraph, CapturedNode, MemoryRange
from forerun.external.attention_groups import Group, LayerMemory, attention_groups, with_groups
from forerun.external.attention_layers import BoundArrays, BoundLayer, bound_arrays
from forerun.external.attention_program import attention_graph, clone_of, may_change_batch
from forerun.frontends.captured import import_capture
from forerun.ir.semantics import check
from forerun.ir.types import DType
from forerun.schedules.capacity import Capacity
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported
from tests.external.captures import Spec, program
from tests.kernels.persistent.grouped import FAMILY
from tests.schedules.batches import attention_by_definition, make_case, random_values

BASE, SIZE = 0x7F00_0000_0000, 1 << 20
PLACES = {
    name: MemoryRange(BASE + n * SIZE, SIZE, name=name)
    for n, name in enumerate(("q", "y", "t", "b", "k0", "v0", "k1", "v1"))
}
LAYERS = [LayerMemory(PLACES["q"], PLACES[f"k{n}"], PLACES[f"v{n}"], PLACES["y"]) for n in range(2)]
ATTEND, MERGE, PRODUCT, PLAN = range(4)
NAMES = ("paged_decode_kernel<128>", "merge_states", "gemm", "plan")
Launch = tuple[int, str]
STEP: list[Launch] = [
    (PLAN, "b"), (PRODUCT, "q"),
    (ATTEND, "q k0 v0 t b"), (ATTEND, "q k0 v0 t"), (MERGE, "t y"), (PRODUCT, "y q"),
    (ATTEND, "q k1 v1 t b"), (MERGE, "t y"), (PRODUCT, "y q"),
]  # fmt: skip


def captured(launches: Sequence[Launch], edges: Sequence[tuple[int, int]] | None = None) -> CapturedGraph:
    """Launches of kernels without an image; each has the addresses of some arrays as its parameters."""
    made = [
        CapturedNode("kernel", number, parameters=tuple(PLACES[p].address.to_bytes(8, "little") for p in given.split()))
        for number, given in launches
    ]
    chain = [(n, n + 1) for n in range(len(made) - 1)] if edges is None else edges
    most = max(len(given.split()) for _, given in launches)
    functions = tuple(CapturedFunction(name, parameters=tuple((8 * n, 8) for n in range(most))) for name in NAMES)
    return CapturedGraph(tuple(made), tuple(CapturedEdge(*e) for e in chain), functions, memory=tuple(PLACES.values()))


def test_the_launches_of_each_layer_are_found() -> None:
    groups = attention_groups(captured(STEP), ("decode", "merge"), LAYERS)
    assert groups == (Group(0, (2, 3, 4)), Group(1, (6, 7)))


def test_one_node_takes_the_place_of_a_group_and_keeps_its_order() -> None:
    imported = import_capture(captured(STEP))
    groups = attention_groups(imported.captured, ("decode", "merge"), LAYERS)
    after = with_groups(imported, groups, LAYERS, [PLACES["b"]])
    assert list(after.nodes) == ["n0", "n1", "group0", "n5", "group1", "n8"]
    pairs = {dependency.pair for dependency in after.dependencies}
    assert pairs == {("n0", "n1"), ("n1", "group0"), ("group0", "n5"), ("n5", "group1"), ("group1", "n8")}
    assert check(after).status != "refuted"
    # Nothing is known of what lies between the groups, so that it may change the batch.
    assert may_change_batch(imported, groups, [PLACES["b"]])
    alone = import_capture(captured(STEP[:5]))
    assert not may_change_batch(alone, (groups[0],), [PLACES["b"]])


FORK = [(ATTEND, "q k0 v0 t"), (PRODUCT, "t q"), (MERGE, "t y")]


@pytest.mark.parametrize(
    ("launches", "edges", "kernels", "error", "said"),
    [
        (STEP, None, "decode", InvalidInput, "'decode' are no parts of names"),
        (STEP, None, ("decode", ""), InvalidInput, "are no parts of names"),
        (STEP, None, ("attention",), InvalidInput, "no launch of attention is for layer 0"),
        (STEP[:5], None, ("decode", "merge"), InvalidInput, "is for layer 1"),
        (STEP, None, ("decode", "merge", "gemm"), InvalidInput, "gemm of n1 has pointers to the KV cache of no layer"),
        (FORK, None, ("decode", "merge"), Unsupported, "n1 is captured between the launches of layer 0"),
        (FORK, [(0, 1), (0, 2)], ("decode", "merge"), Unsupported, "n1 is captured between the launches of layer 0"),
        (STEP[2:4] + STEP[6:7], [(0, 1)], ("decode",), Unsupported, "layer 1 may run beside those of another"),
    ],
)
def test_what_is_refused(
    launches: list[Launch],
    edges: list[tuple[int, int]] | None,
    kernels: Sequence[str],
    error: type[ForerunError],
    said: str,
) -> None:
    layers = LAYERS[: 1 if launches is FORK else 2]
    with pytest.raises(error, match=said):
        attention_groups(captured(launches, edges), kernels, layers)


def bound(parts: list[dict[str, np.ndarray]], first_row: int, rows: int, pages: int, layers: int = 1) -> BoundArrays:
    """What is bound, as if it lay on a GPU: shapes alone count here."""
    given: dict[str, np.ndarray] = {}
    for number, part in enumerate(parts):
        given |= {f"{name}{number}": array for name, array in part.items()}
    shapes = {"q": (rows, 4, 16), "y": (rows, 4, 16), "k_cache": (pages, 4, 2, 16), "v_cache": (pages, 4, 2, 16)}
    shape_of = {f"{name}{n}": shape for name, shape in shapes.items() for n in range(layers)}
    shape_of |= {name: array.shape for name, array in given.items()}
    kinds = {name: np.dtype(np.int32 if name in given else ml_dtypes.bfloat16) for name in shape_of}
    arrays: Any = {
        name: SimpleNamespace(read=SimpleNamespace(shape=shape, dtype=kinds[name]), whole="", offset=0)
        for name, shape in shape_of.items()
    }
    made = tuple(
        BoundLayer({name: f"{name}{n}" for name in shapes}, shapes["y"], shapes["k_cache"]) for n in range(layers)
    )
    groups = tuple(
        ({name: f"{name}{n}" for name in part}, len(part["page_pointers"]) - 1) for n, part in enumerate(parts)
    )
    return BoundArrays(arrays, made, groups, True, first_row, DType.BF16)


def flashinfer_arrays(case: Any, requests: range, *, rows: bool) -> dict[str, np.ndarray]:
    """The arrays of some requests, as FlashInfer has them: pages of their own, and how far the last ones are filled."""
    batch = case.batch
    begin, end = requests.start, requests.stop
    kv = batch.kv_lengths[begin:end]
    pointers = batch.page_pointers[begin : end + 1]
    own = -(-kv // 4)
    found = {
        "page_pointers": np.concatenate(([0], np.cumsum(own))).astype(np.int32),
        "pages": np.concatenate([batch.pages[p : p + n] for p, n in zip(pointers, own, strict=False)]).astype(np.int32),
        "lengths": np.where(own > 0, kv - (own - 1) * 4, 0).astype(np.int32),
    }
    if rows:
        found["query_pointers"] = batch.query_pointers[begin : end + 1] - batch.query_pointers[begin]
    return found


class OnGpu:
    """An array, as if it lay at some address of a GPU."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any = ml_dtypes.bfloat16) -> None:
        data = {"data": (address, False), "strides": None, "version": 3}
        self.__cuda_array_interface__ = {"shape": shape, "typestr": np.dtype(dtype), **data}


def requests_of(count: int, **more: Any) -> forerun.RequestArrays:
    sizes = {"page_pointers": count + 1, "pages": 50, "lengths": count}
    arrays = {name: OnGpu(1 << 20 | n << 12, (size,), np.int32) for n, (name, size) in enumerate(sizes.items())}
    return forerun.RequestArrays(**{**arrays, **more})


def layer_of(**more: Any) -> forerun.AttentionLayer:
    shapes = {"q": (8, 4, 16), "k_cache": (50, 4, 2, 16), "v_cache": (50, 4, 2, 16), "y": (8, 4, 16)}
    arrays = {name: OnGpu(n << 16, shape) for n, (name, shape) in enumerate(shapes.items(), 1)}
    return forerun.AttentionLayer(**{**arrays, **more})


def test_keys_and_values_may_be_pages_of_one_array() -> None:
    found = bound_arrays([layer_of(k_cache=OnGpu(1 << 17, (50, 2, 4, 2, 16)), v_cache=None)], [requests_of(3)])
    (layer,) = found.spans()
    page = 4 * 2 * 16 * 2
    assert (layer.k_cache.address, layer.v_cache.address) == (1 << 17, (1 << 17) + page)
    assert layer.v_cache.stop == (1 << 17) + 100 * page
    assert list(found.memory()) == ["q0", "y0", "cache0", "page_pointers0", "pages0", "lengths0"]
    graph, _ = attention_graph(found, "prefix-sums", "shares", 4, apart=False)
    assert [graph.buffers[name].allocation for name in ("k_cache0", "v_cache0")] == ["cache0", "cache0"]
    assert (found.page_step, found.join_arguments()["page_step"], found.layers[0].cache_shape) == (2, 2, (99, 4, 2, 16))


@pytest.mark.parametrize(
    ("layers", "parts", "said"),
    [
        ([layer_of(q=np.zeros(3))], [requests_of(3)], "q0: ndarray is not an array on a GPU"),
        ([layer_of(q=OnGpu(0, (8, 64)))], [requests_of(3)], "layer 0: queries"),
        ([layer_of(), layer_of(q=OnGpu(0, (9, 4, 16)), y=OnGpu(0, (9, 4, 16)))], [requests_of(3)], "other shapes"),
        ([layer_of(y=OnGpu(0, (8, 4, 16), np.float16))], [requests_of(3)], "several types"),
        ([layer_of(k_cache=OnGpu(0, (50, 4, 2, 16)), v_cache=None)], [requests_of(3)], "keys and values cannot be"),
        ([layer_of()], [requests_of(3, lengths=OnGpu(0, (2,), np.int32))], "too few elements for 3 requests"),
        ([layer_of()], [requests_of(3, pages=OnGpu(0, (2,), np.int64))], "one-dimensional ones of int32"),
        ([layer_of()], [requests_of(3), requests_of(2, last_pages=True)], "must be of one kind"),
        ([layer_of()], [requests_of(3, page_pointers=OnGpu(0, (), np.int32))], "one-dimensional ones of int32"),
        ([layer_of()], [requests_of(3), requests_of(2, first_row=-1)], "cannot begin at row -1"),
        ([layer_of()], [requests_of(3), requests_of(2, first_row=9)], "cannot begin at row 9"),
        ([layer_of(y=OnGpu((1 << 16) + 128, (8, 4, 16)))], [requests_of(3)], "layer 0: the results overlap queries"),
        ([layer_of(), layer_of(y=OnGpu(3 << 16, (8, 4, 16)))], [requests_of(3)], "layer 1: the results overlap values"),
        ([layer_of()], [requests_of(3, lengths=OnGpu(4 << 16, (3,), np.int32))], "the results overlap the batch"),
        ([layer_of()], [requests_of(3, query_pointers=OnGpu(0, (4,), np.int32)), requests_of(2)], "is not known"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(layers: list[Any], parts: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        bound_arrays(layers, parts)


def test_unknown_cuts_and_policies_are_refused() -> None:
    found = bound_arrays([layer_of()], [requests_of(3)])
    with pytest.raises(InvalidInput, match="unknown cuts 'halves'"):
        attention_graph(found, "prefix-sums", "halves", 4, apart=False)
    with pytest.raises(InvalidInput, match="unknown policy 'any'"):
        attention_graph(found, "any", "shares", 4, apart=False)


@pytest.mark.parametrize("apart", [False, True])
def test_what_runs_computes_attention_of_both_groups(apart: bool) -> None:
    """Decodes of one row each before prefills, of which the last request is padding; two layers."""
    queries, kv = [1, 1, 1, 7, 2, 0], [13, 4, 30, 9, 20, 0]
    values = random_values(queries, kv, 3, FAMILY)
    for part in (values.queries, values.keys, values.values):
        part[:] = [array.astype(ml_dtypes.bfloat16).astype(np.float32) for array in part]
    case = make_case(values, family=FAMILY, capacity=Capacity(8, 40, 60, 4, 100, 20), seed=3)
    parts = [flashinfer_arrays(case, range(3), rows=False), flashinfer_arrays(case, range(3, 6), rows=True)]
    q, k, v = (memory.astype(ml_dtypes.bfloat16) for memory in case.memory)
    arrays = bound(parts, 3, len(q), len(k), layers=2)
    graph, names = attention_graph(arrays, "prefix-sums", "shares", 4, apart=apart)
    assert names[0][-1] == "attend0"
    assert len(graph) == (6 if apart else 4)
    with forerun.compile(graph, "reference", "exact") as program:
        inputs: dict[str, Any] = {}
        for number, part in enumerate(parts):
            inputs |= {f"{name}{number}": array for name, array in part.items()}
        for layer in range(2):
            program.write(f"k_cache{layer}", k)
            program.write(f"v_cache{layer}", v)
            inputs[f"q{layer}"] = q
        found = program(**inputs)
        prefix = names[-1][0].removesuffix("join")
        assert program.read(f"{prefix}requests").tolist() == [5]
    expected = attention_by_definition(case.values, FAMILY)
    for layer in range(2):
        assert np.abs(found[f"y{layer}"][: sum(queries)].astype(np.float32) - expected).max() < 0.02


class Parts:
    """A program that only notes which of its nodes are added to a clone, and after which."""

    def __init__(self, *parts: tuple[str, ...], apart: bool = False) -> None:
        self.parts = parts
        self.apart = apart
        self.added: list[tuple[list[str], list[Any]]] = []

    def add_to(self, graph: Any, nodes: list[str], after: list[Any]) -> Any:
        self.added.append((nodes, after))
        return int(graph), nodes[-1]


def test_parts_stand_where_the_groups_stood() -> None:
    """A chain of six, of which two groups, one right behind the other, are replaced; the schedule is made once."""
    parts = Parts(("join", "schedule", "attend0"), ("join", "schedule", "attend1"))
    with program() as captures:
        live = captures.capture([Spec() for _ in range(6)])
        imported = import_capture(live.graph)
        groups = (Group(0, (1, 2)), Group(1, (3,)))
        made = clone_of(live, imported, groups, parts)  # type: ignore[arg-type]
        content = captures.cuda.executables[int(made.executable)]
        clone = next(iter(captures.cuda.clones))
        nodes = [int(handle) for handle in live.handles.nodes]
        first = [(clone, nodes[0])], [(clone, "attend0")]
        assert parts.added == [(["join", "schedule", "attend0"], first[0]), (["attend1"], first[1])]
        assert set(content.nodes) == {nodes[0], nodes[4], nodes[5]}
        assert {("attend1", nodes[4]), (nodes[4], nodes[5])} <= set(content.edges)
        made.close()


def test_of_a_batch_that_may_change_each_group_makes_a_schedule() -> None:
    """Two steps of a layer: the second one's launches see other lengths than the first one's."""
    parts = Parts(("join", "schedule", "attend0"), apart=True)
    with program() as captures:
        live = captures.capture([Spec() for _ in range(4)])
        groups = (Group(0, (1,)), Group(0, (3,)))
        made = clone_of(live, import_capture(live.graph), groups, parts)  # type: ignore[arg-type]
        assert [nodes for nodes, _ in parts.added] == [["join", "schedule", "attend0"]] * 2
        made.close()


@pytest.mark.gpu
def test_captured_launches_of_triton_on_a_gpu(tmp_path: Path) -> None:
    """Decodes in two kernels and prefills in one, in two layers, captured by torch; other batches; wrong words."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("attention_programs.py"))],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "FORERUN_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("refused") == "layer 1: results"
    assert all(error < 0.02 for error in found.pop("errors")), found
    assert found == {"groups": [3, 3], "batches": 3, "bad": "BAD_PAGE", "same_bits": True}
