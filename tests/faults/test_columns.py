"""Fault 08 and its relatives: what strided accesses of large buffers share is decided by arithmetic.

Disjoint columns of 70,000 rows were compared by their hulls, so a graph without a race was refuted, with a schedule
that cannot be. Right is: what is disjoint is proved, what shares a byte in some run is refuted, and what cannot be
compared is unsupported.
"""

from __future__ import annotations

import pytest

from forerun.ir.graph import Graph
from forerun.ir.semantics import check, strides
from forerun.ir.text import parse_graph
from forerun.ir.verify import verify

HUGE = 1 << 40


def writes_beside(
    rows: int, first: str, second: str, *, views: str = "", names: str = "mm", scalars: str = "", load: str = ""
) -> Graph:
    """A node writes a region of one view, and another reads one of the same or of another view, unordered.

    Args:
        rows: Of the buffer ``m : f32[rows, 4]``.
        first: Region that is written, as text.
        second: Region that is read.
        views: Lines that declare other views of ``$a``.
        names: The views that are written and read.
        scalars: Scalar parameters of both kernels.
        load: Their arguments.
    """
    types = {name: "f16" if name in "hg" else "f32" for name in names}
    text = f"""forerun 1
graph g
alloc $a : {rows * 16}
buffer %m : f32[{rows}, 4] state at $a + 0
buffer %p : u32[2] state in 0..3
{views}
kernel @put(x: {types[names[0]]}[R, C]{scalars}) {{
  role main {{
    phase put writes x{first}
  }}
}}
kernel @get(x: {types[names[1]]}[S, D]{scalars}) {{
  role main {{
    phase get reads x{second}
  }}
}}
node #put = @put(x=%{names[0]}{load.replace("LOAD", "%p[0]")})
node #get = @get(x=%{names[1]}{load.replace("LOAD", "%p[1]")})
"""
    graph = parse_graph(text)
    assert not verify(graph)
    return graph


@pytest.mark.parametrize("rows", [4000, 65_535, 65_536, 65_537, 70_000, HUGE])
@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("[:, 0:1]", "[:, 1:2]", "proved"),
        ("[:, 0:1]", "[:, 1:4]", "proved"),
        ("[:, 0:2]", "[:, 1:2]", "refuted"),
        ("[:, 3:4]", "[1:R, 0:3]", "proved"),
        ("[0:2, :]", "[2:4, 0:1]", "proved"),
        ("[0:2, :]", "[1:4, 0:1]", "refuted"),
    ],
)
def test_columns(rows: int, first: str, second: str, status: str) -> None:
    second = second.replace("R", "S")
    assert check(writes_beside(rows, first, second)).status == status


@pytest.mark.parametrize(
    ("view", "first", "second", "status"),
    [
        # The same bytes as rows of 8: column 1 of m is columns 1 and 5 of w.
        (f"buffer %w : f32[{HUGE // 2}, 8] state at $a + 0", "[:, 1:2]", "[:, 4:5]", "proved"),
        (f"buffer %w : f32[{HUGE // 2}, 8] state at $a + 0", "[:, 1:2]", "[:, 5:6]", "refuted"),
        # Rows of 6: every 12 floats they are in step. Column 0 of m is at 0, 4, 8, columns of w are at c and c + 6.
        (f"buffer %w : f32[{HUGE // 6}, 6] state at $a + 0", "[:, 0:1]", "[:, 1:2]", "proved"),
        (f"buffer %w : f32[{HUGE // 6}, 6] state at $a + 0", "[:, 0:1]", "[:, 2:3]", "refuted"),
        # The view begins one float later.
        (f"buffer %w : f32[{HUGE // 8}, 4] state at $a + 4", "[:, 0:1]", "[:, 0:1]", "proved"),
        (f"buffer %w : f32[{HUGE // 8}, 4] state at $a + 4", "[:, 1:2]", "[:, 0:1]", "refuted"),
        # The other way round: few very long rows.
        (f"buffer %w : f32[4, {HUGE}] state at $a + 0", "[:, 0:1]", "[:, 1:2]", "proved"),
        (f"buffer %w : f32[4, {HUGE}] state at $a + 0", "[:, 0:1]", "[:, 0:1]", "refuted"),
    ],
)
def test_views_with_another_pitch(view: str, first: str, second: str, status: str) -> None:
    assert check(writes_beside(HUGE, first, second, views=view, names="mw")).status == status


@pytest.mark.parametrize(("half", "status"), [(2, "refuted"), (3, "refuted"), (0, "proved"), (4, "proved")])
def test_halves_of_floats(half: int, status: str) -> None:
    view = f"buffer %h : f16[{HUGE}, 8] state at $a + 0"
    graph = writes_beside(HUGE, "[:, 1:2]", f"[:, {half}:{half + 1}]", views=view, names="mh")
    assert check(graph).status == status


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        # A number of rows that is not known: columns are apart; whether there is a row is not known.
        ("[0:n, 0:1]", "[0:n, 1:2]", "proved"),
        ("[0:n, 0:1]", "[0:n, 0:1]", "unsupported"),
        # One row at a place that is not known.
        ("[n:n + 1, 0:1]", "[:, 1:2]", "proved"),
        ("[n:n + 1, 0:1]", "[n:n + 1, 1:2]", "proved"),
        ("[n:n + 1, 0:1]", "[n:n + 1, 0:2]", "refuted"),
        ("[n:n + 1, 0:1]", "[:, 0:2]", "refuted"),
        # No values make an even row an odd one.
        ("[2*n:2*n + 1, :]", "[2*n + 1:2*n + 2, :]", "proved"),
        ("[2*n:2*n + 1, :]", "[n:n + 1, :]", "refuted"),
        # The scalars are at most 3, so row 9 is not reached; row 3 is.
        ("[n:n + 1, :]", "[9:10, :]", "unsupported"),
        ("[n:n + 1, :]", "[3:4, :]", "refuted"),
    ],
)
def test_rows_that_scalars_name(first: str, second: str, status: str) -> None:
    graph = writes_beside(70_000, first, second, scalars=", n: scalar u32", load=", n=load(LOAD)")
    verdict = check(graph)
    assert verdict.status == status
    assert all(race.certain is (status == "refuted") for race in verdict.races)


def test_what_takes_too_long_to_compare_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    view = f"buffer %w : f32[{HUGE // 6}, 6] state at $a + 0"
    graph = writes_beside(HUGE, "[:, 0:1]", "[:, 2:3]", views=view, names="mw")
    monkeypatch.setattr(strides, "MAX_STEPS", 0)
    strides._meet.cache_clear()
    verdict = check(graph)
    strides._meet.cache_clear()
    assert verdict.status == "unsupported"
    assert [race.certain for race in verdict.races] == [False]
