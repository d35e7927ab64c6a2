"""Constants are equal if and only if their types and bits are, wherever they occur."""

from __future__ import annotations

import copy
import math
import pickle
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.fingerprint import content_hash
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.ir.text import parse_graph, print_graph
from forerun.support.diagnostics import InvalidInput
from forerun.support.options import non_default_texts, option


def from_bits(bits: int) -> float:
    return struct.unpack("<d", bits.to_bytes(8, "little"))[0]


def graph_of(value: object) -> Graph:
    return Graph("g", nodes=[KernelNode("n", "k", (("s", ConstantArgument(value)),))])


NANS = [0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + 1, (0x7FF0 << 48) + 1, (1 << 64) - 1, (1 << 63) - 1]
UNEQUAL = [0, 1, 0.0, -0.0, 1.0, math.inf, -math.inf, 5e-324, -1, 2**63, *map(from_bits, NANS)]
drawn = st.sampled_from(UNEQUAL) | st.integers(-2, 2) | st.integers(0, 2**64 - 1).map(from_bits)


def key(value: float) -> object:
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)


@pytest.mark.parametrize("first", UNEQUAL)
@pytest.mark.parametrize("second", UNEQUAL)
def test_constants_with_other_bits_or_types_are_unequal(first: float, second: float) -> None:
    same = key(first) == key(second)
    assert (ConstantArgument(first) == ConstantArgument(second)) == same
    assert (graph_of(first) == graph_of(second)) == same
    assert (content_hash(graph_of(first)) == content_hash(graph_of(second))) == same
    assert (print_graph(graph_of(first)) == print_graph(graph_of(second))) == same


@given(first=drawn, second=drawn)
def test_equality_is_that_of_bits(first: float, second: float) -> None:
    same = key(first) == key(second)
    event(f"equal: {same}")
    assert (ConstantArgument(first) == ConstantArgument(second)) == same
    assert len({ConstantArgument(first), ConstantArgument(second)}) == (1 if same else 2)


@given(value=drawn)
def test_a_copy_is_equal_and_has_the_same_hash(value: float) -> None:
    again = from_bits(int.from_bytes(struct.pack("<d", value), "little")) if isinstance(value, float) else value
    made = ConstantArgument(value)
    for other in (ConstantArgument(again), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert other == made
        assert hash(other) == hash(made)
    parsed = parse_graph(print_graph(graph_of(value)))
    assert parsed == graph_of(value)
    assert hash(parsed.nodes["n"]) == hash(graph_of(value).nodes["n"])


def test_a_constant_is_equal_to_nothing_else() -> None:
    assert ConstantArgument(1) != 1
    assert ConstantArgument(0.0).__eq__(0.0) is NotImplemented


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [(True, 1), (np.int64(3), 3), (np.bool_(1), np.bool_(1)), (np.float32(0.1), float(np.float32(0.1))), ("1", "1")],
)
def test_numbers_of_other_libraries_are_stored_as_those_of_python(given_value: object, kept: object) -> None:
    value = ConstantArgument(given_value).value
    assert type(value) is type(kept)
    assert value == kept


def test_an_edit_that_changes_a_sign_of_zero_is_a_change() -> None:
    graph = graph_of(0.0)
    edit = graph.edit()
    edit.replace_node(graph_of(-0.0).nodes["n"])
    assert list(edit.delta.nodes) == ["n"]
    assert edit.commit() != graph


def test_an_edit_that_puts_the_same_nan_is_none() -> None:
    graph = graph_of(math.nan)
    edit = graph.edit()
    edit.replace_node(graph_of(from_bits(NANS[0])).nodes["n"])
    assert edit.commit() is graph


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("nan", NANS[0]),
        ("-nan", NANS[1]),
        ("nan(0x8000000000001)", NANS[2]),
        ("nan(1)", NANS[3]),
        ("-nan(0xfffffffffffff)", NANS[4]),
        ("nan(2251799813685248)", NANS[0]),
    ],
)
def test_a_nan_in_text_has_its_sign_and_payload(text: str, bits: int) -> None:
    node = parse_graph(f"forerun 1\ngraph g\nnode #n = @k(s={text})").nodes["n"]
    assert node.argument("s") == ConstantArgument(from_bits(bits))


@pytest.mark.parametrize("text", ["nan(0)", "nan(0x10000000000000)", "nan(-1)", "nan()", "nan(x)", "nan(1", "inf(1)"])
def test_what_is_no_payload_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_graph(f"forerun 1\ngraph g\nnode #n = @k(s={text})")
    assert {found.code for found in raised.value.diagnostics} <= {"P4", "P5", "P8"}


@dataclass(frozen=True)
class Scaled:
    factor: float = option(0.0, help="a number")


def test_an_option_of_negative_zero_is_not_the_default() -> None:
    assert non_default_texts(Scaled(-0.0)) == {"factor": "-0.0"}
    assert non_default_texts(Scaled(0.0)) == {}
    assert non_default_texts(Scaled(0)) == {"factor": "0"}
