"""Targets by name and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from forerun.ir.graph import Graph
from forerun.runtime import base
from forerun.runtime.base import Program, Target, register_target, resolve_target, target_names
from forerun.runtime.reference import ReferenceTarget, Schedule
from forerun.support.diagnostics import InvalidInput, Unsupported


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_targets", dict(base._targets))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("reference", ReferenceTarget()),
        ("reference{}", ReferenceTarget("serial")),
        ("reference{schedule=adversarial,seed=3}", ReferenceTarget("adversarial", 3)),
        ("reference{schedule=adversarial,h6=true,loop-limit=9}", ReferenceTarget("adversarial", h6=True, loop_limit=9)),
    ],
)
def test_text_and_back(text: str, target: ReferenceTarget) -> None:
    assert resolve_target(text) == target
    assert resolve_target(str(target)) == target


def test_targets_are_passed_through() -> None:
    target = ReferenceTarget(seed=3)
    assert resolve_target(target) is target
    assert isinstance(target, Target)
    assert target_names() == ("cuda", "reference")
    for wrong in (3, ReferenceTarget):
        with pytest.raises(InvalidInput, match="is not a target"):
            resolve_target(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("referense", "no target 'referense'\n  hint: did you mean 'reference'?"),
        ("reference{sed=3}", "'reference' has no option 'sed'\n  hint: did you mean 'seed'?"),
        ("reference{seed=x}", "option 'seed' cannot be 'x'"),
        ("reference{schedule=advesarial}", "no schedule 'advesarial'\nhint: did you mean 'adversarial'?"),
        ("reference{schedule=no/such.json}", "the schedule no/such.json cannot be read: No such file or directory"),
        ("reference,reference", "one target is expected"),
        ("", "a target is missing"),
    ],
)
def test_wrong_texts(text: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve_target(text)
    assert expected in str(caught.value)


def test_cuda_is_resolved_without_a_gpu() -> None:
    target = resolve_target("cuda{device=1,arch=sm_90,delays=3}")
    assert str(target) == "cuda{device=1,arch=sm_90,delays=3}"


def test_options_set_in_python_are_checked() -> None:
    with pytest.raises(InvalidInput, match="option 'seed' cannot be '3'"):
        ReferenceTarget(seed="3")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"option 'loop_limit' cannot be 1\.5"):
        ReferenceTarget(loop_limit=1.5)  # type: ignore[arg-type]


def test_a_schedule_is_an_option(tmp_path: Path) -> None:
    schedule = Schedule("g", 3, 0, "uniform", True, ())
    assert ReferenceTarget(schedule).recorded == schedule
    assert ReferenceTarget(schedule).h6
    schedule.save(tmp_path / "one.json")
    path = str(tmp_path / "one.json")
    assert ReferenceTarget(path).recorded == schedule
    assert ReferenceTarget(tmp_path / "one.json") == ReferenceTarget(path)
    assert resolve_target(f'reference{{schedule="{path}"}}') == ReferenceTarget(path)


@pytest.mark.usefixtures("registry")
def test_registering_a_target() -> None:
    @register_target
    @dataclass(frozen=True)
    class Nowhere:
        name: ClassVar[str] = "nowhere"
        distance: int = 1

        def load(self, graph: Graph, weights: Mapping[str, Any]) -> Program:
            raise Unsupported("too far")

    assert resolve_target("nowhere{distance=4}") == Nowhere(4)
    assert target_names() == ("cuda", "nowhere", "reference")
    with pytest.raises(InvalidInput, match="two targets are named 'nowhere'"):
        register_target(type("Other", (), {"name": "nowhere", "load": Nowhere.load}))
