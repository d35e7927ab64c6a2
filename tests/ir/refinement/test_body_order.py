"""Two bodies of one kernel: which orders of phases a new body gives up."""

from __future__ import annotations

import pytest

from forerun.ir.kernel import Access, Barrier, BufferParameter, Implementation, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.refinement.body_order import lost_orders, other_body
from forerun.ir.types import DType

PARAMETERS = (BufferParameter("p", DType.F32),)
A, B, C = Phase("a", defines=("t",)), Phase("b"), Phase("c", uses=("t",))
COPY = Phase("copy", reads=(Access("p"),), defines=("tile",), asynchronous=True)
USE, PUT = Phase("use", uses=("tile",)), Phase("put", writes=(Access("p"),))
GRID = Barrier("grid")


def body(*roles: tuple[Step, ...], language: str = "cuda") -> Kernel:
    made = tuple(Role(f"r{i}", steps) for i, steps in enumerate(roles))
    return Kernel("k", PARAMETERS, made, (Implementation(language, "file", "entry"),))


def lost(before: Kernel, after: Kernel) -> list[tuple[str, str, tuple[str, ...], str]]:
    assert other_body(before, after) == ""
    return [(found.earlier, found.later, found.ways, found.local) for found in lost_orders(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (body((A, B, C)), body((A, B, C)), []),
        (body((A, B, C)), body((Trigger(), A, Wait(), B, Barrier(), C)), []),
        (body((A, B, C)), body((B, A, C)), [("a", "b", ("role",), "")]),
        (body((A, C)), body((C, A)), [("a", "c", ("role",), "t")]),
        (body((A, Barrier(), B)), body((A, B, Barrier())), [("a", "b", ("cta",), "")]),
        (body((A, Barrier(), B)), body((B, Barrier(), A)), [("a", "b", ("cta", "role"), "")]),
        (body((A, GRID, Barrier(), B)), body((GRID, A, Barrier(), B)), [("a", "b", ("grid",), "")]),
        # Other roles see an order through barriers only.
        (body((A, Barrier()), (Barrier(), C)), body((Barrier(), A), (Barrier(), C)), [("a", "c", ("cta",), "t")]),
        (body((A, Barrier()), (B, Barrier())), body((Barrier(), A), (B, Barrier())), []),
        # The copy engine may read until its result is taken: what comes after that has to stay behind it.
        (
            body((COPY, USE, PUT)),
            body((COPY, PUT, USE)),
            [("copy", "put", ("role",), ""), ("use", "put", ("role",), "")],
        ),
        (body((COPY, PUT, USE)), body((COPY, USE, PUT)), [("put", "use", ("role",), "")]),
        (body((COPY, B, USE)), body((B, COPY, USE)), []),
    ],
)
def test_lost_orders(before: Kernel, after: Kernel, expected: list[tuple[str, str, tuple[str, ...], str]]) -> None:
    assert lost(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (body((A, B)), Kernel("k", (), body((A, B)).roles, body((A,)).implementations), "the parameters differ"),
        (body((A, B)), body((A, B), language="ptx"), "the implementations differ"),
        (body((A, B)), Kernel("k", PARAMETERS, None, body((A,)).implementations), "a black box has no body to compare"),
        (body((A, B), language="ptx"), body((B, A), language="ptx"), "its machine code is not the compiler's"),
        (body((A,), (B,)), body((A, B)), "the roles differ"),
        (body((A,), (B,)), body((B,), (A,)), "role 'r0' runs other phases"),
        (body((A, B)), body((A,)), "role 'r0' runs other phases"),
        (body((A, Barrier(), B)), body((A, B)), "role 'r0' lost a barrier"),
        (body((GRID, A, Barrier(), B)), body((Barrier(), A, GRID, B)), "role 'r0' lost a barrier"),
        (body((A, B)), body((A, GRID, B)), "or got one of the grid"),
    ],
)
def test_other_bodies(before: Kernel, after: Kernel, reason: str) -> None:
    assert reason in other_body(before, after)


def test_the_body_of_foreign_code_may_stay_as_it_is() -> None:
    assert other_body(body((A, B), language="cubin"), body((A, B), language="cubin")) == ""
    assert other_body(Kernel("k", PARAMETERS), Kernel("k2", PARAMETERS)) == ""
