"""Code of changed kernels: which forms are tried, and that it ends when none is fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forerun.captured import AssembledText
from forerun.frontends.captured import import_capture
from forerun.ir.kernel import Kernel, Step, Trigger, Wait
from forerun.runtime.cuda.capture import assembled
from tests.captured.samples import captured, kernel, launch

LOADS = [f"ld.global.u32 %r{2 + n}, [%rd4+{4 * n}];" for n in range(4)]
TEXT = kernel("scale", *LOADS, "ld.global.u32 %r6, [%rd5];", "st.global.u32 [%rd6], %r6;")
IMPORTED = import_capture(captured([TEXT], [launch(0, "w0", "x", "y")]))


def attempts(monkeypatch: pytest.MonkeyPatch, order: str) -> list[int]:
    """How many loads stand before the wait in each form that is tried of a body, when none is fit."""
    (own,) = IMPORTED.graph.kernels.values()
    (role,) = own.roles or ()
    steps: dict[str, Step] = {"load_p0": role.steps[0], "load_p1": role.steps[1], "store": role.steps[2]}
    steps |= {"wait": Wait(), "trigger": Trigger()}
    changed = Kernel(
        own.name, own.parameters, (replace(role, steps=tuple(map(steps.__getitem__, order.split()))),),
        own.implementations,
    )  # fmt: skip
    tried: list[int] = []

    def assemble(text: str, *_: object) -> tuple[bytes, str]:
        tried.append(text.partition("griddepcontrol.wait")[0].count("ld.global") if "wait;" in text else 0)
        return b"", "no such thing"

    monkeypatch.setattr(assembled, "assemble_as", assemble)
    graph = IMPORTED.captured
    found = assembled.make_code(
        AssembledText(TEXT), ("ptxas", "sm_90a"), changed, graph.functions[0], b"", graph.nodes[0], 132
    )
    assert found == "ptxas refuses it: no such thing"
    return tried


def test_fewer_and_fewer_loads_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(monkeypatch, "load_p0 wait load_p1 store") == [4, 2, 1, 0]


def test_none_are_moved_where_none_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(monkeypatch, "wait load_p0 load_p1 store") == [0]


def test_what_only_triggers_has_no_early_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(monkeypatch, "trigger load_p0 load_p1 store") == [0]
