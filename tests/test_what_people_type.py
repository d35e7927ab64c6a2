"""What builders, pipelines and programs take of what people type, and what they refuse, with the closest right form."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import forerun
from forerun import DType, InvalidInput
from forerun.ir.nodes import ConstantArgument, KernelNode, ScalarLoad
from forerun.kernels import add, builtin, embedding
from forerun.passes.insert_pdl import InsertPdl


def twice() -> forerun.Graph:
    build = forerun.GraphBuilder("twice")
    build.launch(add, a=build.input("x", "f32", 4), b="x", y=build.output("y", "f32", 4))
    return build.build()


# Builders


def torch_type(name: str) -> Any:
    """Something that shows itself as torch's types do."""
    return type("dtype", (), {"__repr__": lambda self: f"torch.{name}", "__module__": "torch"})()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("f32", DType.F32),
        ("float32", DType.F32),
        ("bfloat16", DType.BF16),
        ("half", DType.F16),
        (DType.U8, DType.U8),
        (np.float32, DType.F32),
        (np.int64, DType.I64),
        (np.dtype("u2"), DType.U16),
        (ml_dtypes.bfloat16, DType.BF16),
        (np.dtype(ml_dtypes.bfloat16), DType.BF16),
        (torch_type("float32"), DType.F32),
        (torch_type("bfloat16"), DType.BF16),
    ],
)
def test_types_by_any_name(given: object, expected: DType) -> None:
    assert DType.of(given) is expected


def test_every_type_has_its_short_and_its_long_name() -> None:
    for dtype in DType:
        numpy = ml_dtypes.bfloat16 if dtype is DType.BF16 else str(dtype)[0] + str(dtype.itemsize)
        assert DType.of(str(dtype)) is DType.of(np.dtype(numpy)) is DType.of(np.dtype(numpy).name) is dtype


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [
        ("f23", 8, r"buffer 'x': 'f23' is not an element type\nhint: did you mean 'f32'"),
        (float, 8, "hint: say 'f32' or 'f64'"),
        (bool, 8, "hint: say 'u8'"),
        (torch_type("long"), 8, "hint: say 'i64'"),
        (np.dtype(">f4" if sys.byteorder == "little" else "<f4"), 8, "order of another machine"),
        (np.complex64, 8, "hint: valid names"),
        (None, 8, "None is not an element type"),
        ((8,), "f32", "is not an element type"),
        ("f32", 8.0, r"buffer 'x': 8.0 is not a shape\nhint: extents are integers"),
        ("f32", "8", "'8' is not a shape"),
        ("f32", (2, None), "is not a shape"),
        ("f32", True, "True is not a shape"),
    ],
)
def test_types_and_shapes_that_are_none(dtype: Any, shape: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        forerun.GraphBuilder("g").input("x", dtype, shape)


@pytest.mark.parametrize("shape", [8, (8,), [8], np.int64(8), np.array([8])])
def test_shapes(shape: Any) -> None:
    build = forerun.GraphBuilder("g")
    build.output("y", np.float32, shape)
    build.fill("y")
    buffer = build.build().buffers["y"]
    assert buffer.shape == (8,)
    assert type(buffer.shape[0]) is int


def test_scalars_of_any_kind_and_arguments_by_position() -> None:
    build = forerun.GraphBuilder("g")
    table, token = build.weight("table", "f32", (4, 8)), build.input("token", "i32", 1, bounds=(0, 3))
    for number, value in enumerate((token, np.int32(2), ScalarLoad("token"))):
        build.launch(embedding, table, build.output(f"y{number}", "f32", 8), value)
    nodes = [node for node in build.build() if isinstance(node, KernelNode)]
    assert [node.argument("token") for node in nodes] == [ScalarLoad("token"), ConstantArgument(2), ScalarLoad("token")]


def plain(x: Any, eps: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda b: b.launch("add"), "launch takes a kernel, not str 'add'"),
        (lambda b: b.launch(plain), r'decorate it: @forerun.kernel\("x: f32\[N\], eps: f32\[N\] -> y: f32\[N\]"\)'),
        (lambda b: b.launch(builtin), "choose one of forerun.kernels.builtin.KERNELS"),
        (lambda b: b.launch(np), "module 'numpy'"),
        (
            lambda b: b.launch(add, "x", "x", "y", "y"),
            r"3 parameters, 4 arguments are given\nhint: they are a, b, y",
        ),
        (lambda b: b.launch(add, "x", "x", "y", a="x"), "argument 'a' is given twice"),
        (lambda b: b.launch(add, "x", np.ones(4), "y"), "argument 'b' is a buffer's name, not ndarray"),
        (lambda b: b.launch(add, "x", 3, "y"), "a buffer's name, not int 3"),
        (lambda b: b.launch(embedding, "x", "y", token=None), "argument 'token' is a scalar, not NoneType None"),
        (lambda b: b.input(3, "f32", 4), "a buffer is named by a text, not by 3"),
        (lambda b: b.fill("y", after="x"), "no node 'x'"),
    ],
)
def test_launches_that_are_none(act: Callable[[forerun.GraphBuilder], object], words: str) -> None:
    build = forerun.GraphBuilder("g")
    build.input("x", "f32", 4)
    build.output("y", "f32", 4)
    with pytest.raises(InvalidInput, match=words):
        act(build)


def test_one_name_does_for_a_list_of_one() -> None:
    build = forerun.GraphBuilder("g")
    build.output("y", "f32", 4)
    first = build.fill("y")
    build.fill("y", after=[])
    build.join(first)
    build.host("m:f", reads="y", after=first)
    edges = {d.pair for d in build.build(verify=False).dependencies}
    assert edges == {("fill.0", "join.2"), ("fill.0", "host.3")}


# Pipelines, programs, values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            ["infer-dependencies", InsertPdl(), "hoist-loads,reduce-edges"],
            "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
        ),
        (InsertPdl(), "insert-pdl"),
        ([forerun.Pipeline.parse("insert-pdl"), "hoist-loads"], "insert-pdl,hoist-loads"),
        ((), ""),
        (None, ""),
        ("insert-pdl{trigger=start}", "insert-pdl{trigger=start}"),
    ],
)
def test_pipelines_of_any_form(given: Any, expected: str) -> None:
    expected = str(forerun.Pipeline.parse(expected))
    assert str(forerun.Pipeline.of(given)) == expected
    assert forerun.PassManager(given).run(twice()).summary.pipeline == expected
    with forerun.compile(twice(), pipeline=given) as program:
        assert program.summary.pipeline == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "3 is not a pipeline"),
        ([3], "a pipeline holds passes, not 3"),
        (InsertPdl, "is not a pipeline\nhint: add parentheses"),
        ([InsertPdl], "hint: add parentheses"),
        (["insert-pd"], "did you mean 'insert-pdl'"),
    ],
)
def test_pipelines_that_are_none(given: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        forerun.compile(twice(), pipeline=given)


def test_a_program_is_called_with_keywords() -> None:
    with forerun.compile(twice()) as program:
        results = program(x=[1, 2, 3, 4]), program({"x": [1, 2, 3, 4]}), program.run({"x": [1, 2, 3, 4]})
        assert all(result["y"].tolist() == [2, 4, 6, 8] for result in results)
        for act, words in (
            (lambda: program(), "no value for input %x"),
            (lambda: program(y=1), "the graph has no input '%y'"),
            (lambda: program(np.ones(4)), "inputs are given by name, not as ndarray"),
        ):
            with pytest.raises(InvalidInput, match=words):
                act()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("f32", np.ones(4)),
        ("f32", np.arange(4)),
        ("f32", [0.1, 1, 2, 3]),
        ("f32", np.array([np.nan, np.inf, -0.0, 0.5])),
        ("f32", np.ones(4, ">f4")),
        ("f32", np.ones(4, ml_dtypes.bfloat16)),
        ("bf16", np.full(4, 1.5)),
        ("i32", np.arange(4)),
        ("u8", np.array([0, 255, 1, 2])),
        ("i64", np.arange(4, dtype=np.uint64)),
        ("i32", np.array([True, False, True, True])),
    ],
)
def test_inputs_of_other_types_are_taken_where_no_value_changes(dtype: str, value: Any) -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.input("x", dtype, 4), build.output("y", dtype, 4))
    with forerun.compile(build.build()) as program:
        given = np.asarray(value)
        result = program(x=value)["y"]
    assert DType.of(result.dtype) is DType.of(dtype)
    tolerance = 1e-7 if isinstance(value, list) else 0.0
    np.testing.assert_allclose(result.astype(np.float64), given.astype(np.float64), rtol=tolerance)
    assert (np.signbit(result) == np.signbit(given.astype(result.dtype))).all()


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        (
            "f32",
            np.array([1, 0.1, 2, 3]),
            r"element 1 is 0.1, which .*\nhint: array.astype\(np.float32\)",
        ),
        ("bf16", np.array([1, 2, 0.1, 3]), r"element 2 is 0.1.*\nhint: array.astype\(ml_dtypes.bfloat16\)"),
        ("f32", np.array([1e300, 0, 0, 0]), "does not fit f32 exactly"),
        ("f32", np.array([2**24 + 1, 0, 0, 0]), "element 0 is 16777217"),
        ("f16", [70000, 0, 0, 0], "70000 does not fit f16"),
        ("u8", np.array([0, -1, 0, 0]), "element 1 is -1, which does not fit u8"),
        ("u64", np.array([0, -1, 0, 0]), "element 1 is -1, which does not fit u64"),
        ("i64", np.array([2**63, 0, 0, 0], np.uint64), "does not fit i64"),
        ("i32", np.ones(4), r"expected i32\[4\], given f64\[4\]"),
        ("f32", np.ones(4, complex), r"given complex128\[4\]"),
        ("f32", np.ones(3), r"expected f32\[4\], given f64\[3\]"),
    ],
)
def test_inputs_that_would_change_are_refused(dtype: str, value: Any, words: str) -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.input("x", dtype, 4), build.output("y", dtype, 4))
    with forerun.compile(build.build()) as program, pytest.raises(InvalidInput, match=words):
        program(x=value)


def test_weights_are_converted_if_they_are_lists_only() -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.weight("w", "f32", 2), build.output("y", "f32", 2))
    with forerun.compile(build.build(), weights={"w": [0.5, 3]}) as program:
        assert program()["y"].tolist() == [0.5, 3]
    with pytest.raises(InvalidInput, match=r"given f64\[2\]\nhint: array.astype\(np.float32\) rounds"):
        forerun.compile(build.build(), weights={"w": np.ones(2)})
