"""A rewrite that changes a constant is never proved, and refuted where the change is certain to be seen."""

from __future__ import annotations

import pytest

from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph
from forerun.ir.types import DType
from forerun.ir.verify import require_valid

GRAPH = """
forerun 1
graph g
buffer %x : f32[2] input
buffer %t : f32[2] temp
buffer %y : f32[2] output
kernel @scale(a: f32[N], y: f32[N], s: scalar {dtype}, unused: scalar f32) {{
  role main {{
    phase run reads a {scalars} writes y
  }}
}}
kernel @box(a: f32[N], s: scalar f32) opaque
node #n = @scale(a=%x, y=%{target}, s={s}, unused={unused})
node #m = @scale(a=%x, y=%y, s=1, unused=1.0)
{more}
"""


def verdict_of(
    old: str,
    new: str,
    *,
    dtype: str = "f32",
    scalars: str = "scalars s",
    target: str = "t",
    more: str = "node #k = copy %t -> %y\n  after #n\n  after #m",
    of: str = "s",
) -> tuple[str, set[str]]:
    given = {"s": "1", "unused": "1.0", "dtype": dtype, "scalars": scalars, "target": target, "more": more}
    graphs = [parse_graph(GRAPH.format(**given | {of: value})) for value in (old, new)]
    for graph in graphs:
        require_valid(graph)
    verdict = certify(*graphs)
    return verdict.status, {finding.code for finding in verdict.findings}


@pytest.mark.parametrize(
    ("dtype", "old", "new"),
    [
        ("f32", "0.0", "-0.0"),
        ("f32", "-0.0", "0"),
        ("f32", "1.0", "1.0000001"),
        ("f32", "nan", "-nan"),
        ("f32", "nan", "nan(0xc000000000000)"),
        ("f32", "1e300", "-1e300"),
        ("f64", "0.1", "0.10000000149011612"),
        ("f64", "nan", "nan(0x8000000000001)"),
        ("f16", "0.0", "-0.0"),
        ("bf16", "inf", "nan"),
        ("i32", "1", "-1"),
        ("u8", "0", "255"),
    ],
)
def test_other_bits_are_refuted(dtype: str, old: str, new: str) -> None:
    assert verdict_of(old, new, dtype=dtype) == ("refuted", {"C7", "C18"})
    assert verdict_of(new, old, dtype=dtype) == ("refuted", {"C7", "C18"})


@pytest.mark.parametrize(
    ("dtype", "old", "new"),
    [("f32", "1", "1.0"), ("f32", "0.1", "0.10000000149011612"), ("f64", "1", "1.0"), ("f32", "1e300", "inf")],
)
def test_another_constant_of_the_same_bits_is_not_proved(dtype: str, old: str, new: str) -> None:
    assert verdict_of(old, new, dtype=dtype) == ("unsupported", {"C7"})


@pytest.mark.parametrize("value", ["0.0", "-0.0", "nan", "-nan", "nan(1)", "-nan(0xfffffffffffff)", "1"])
def test_the_same_constant_is_proved(value: str) -> None:
    assert verdict_of(value, value) == ("proved", set())


def test_what_is_not_known_to_be_used_or_read_is_not_refuted() -> None:
    assert verdict_of("0.0", "-0.0", scalars="") == ("unsupported", {"C7"})
    assert verdict_of("0.0", "-0.0", of="unused") == ("unsupported", {"C7"})
    assert verdict_of("0.0", "-0.0", more="") == ("unsupported", {"C7", "C18"})
    box = "node #b = @box(a=%y, s={})\n  after #n\n  after #m"
    assert verdict_of(box.format("0.0"), box.format("-0.0"), of="more") == ("unsupported", {"C7"})


@pytest.mark.parametrize(("old", "new"), [("0", "1"), ("1", "4294967295"), ("2147483648", "0")])
def test_a_fill_with_another_value_is_not_proved(old: str, new: str) -> None:
    fills = [f"node #f = fill %y with {value}\n  after #m" for value in (old, new)]
    assert verdict_of(*fills, of="more") == ("unsupported", {"C7"})


def test_constants_in_bodies() -> None:
    child = "node #c = child {{ graph b\nnode #in = @scale(a=%x, y=%y, s={}, unused=1.0) }}\n  after #m"
    assert verdict_of(child.format("0.0"), child.format("-0.0"), of="more") == ("refuted", {"C7", "C18"})
    assert verdict_of(child.format("nan"), child.format("nan"), of="more") == ("proved", set())


def test_every_type_of_scalars_is_compared() -> None:
    for dtype in DType:
        assert verdict_of("0", "1", dtype=str(dtype)) == ("refuted", {"C7", "C18"})
