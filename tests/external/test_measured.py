"""What is measured of the choices of a captured graph: when it holds for another one, and when it is measured again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forerun
from forerun.external.choices import Choice
from forerun.external.known_choices import KnownChoices
from forerun.external.search import Search
from forerun.ir.kernel import Trigger, Wait
from forerun.runtime.cuda.capture import code_maker
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.timing import Timing
from tests.external.captures import OTHER, WAITS, Spec, program

FIRST, SECOND = Spec(), Spec(blocks=("w1", "y", "z"))


def test_what_was_measured_is_kept_for_the_same_functions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    asked: list[float] = []
    monkeypatch.setattr(Timing, "_block", lambda self, executable: asked.append(1.0) or float(len(asked)))
    with program() as found:
        found.cuda.cuMemAlloc = lambda size: found.cuda.made("cuMemAlloc", size)  # type: ignore[method-assign]
        graph = forerun.optimize(found.capture([FIRST, SECOND]))
        choices = graph.search
        assert asked
        asked.clear()
        # Another grid: it would be measured again, since times depend on launches.
        update = graph.update(found.capture([FIRST, replace(SECOND, grid=2)]))
        assert update.way in ("parameters", "instantiated")
        assert graph.search is choices
        assert asked == []
        graph.update(found.capture([FIRST, replace(SECOND, function=OTHER)]))
        assert asked
        assert graph.search is not choices


def test_what_is_remembered_holds_only_if_its_code_is_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another version of the rules, or of the tools, may refuse code that was measured."""
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Timing, "_block", lambda self, executable: 1.0)
    with program() as found:
        found.cuda.cuMemAlloc = lambda size: found.cuda.made("cuMemAlloc", size)  # type: ignore[method-assign]
        captured = found.capture([FIRST, SECOND])
        remembered = Search("captured", dict.fromkeys(range(2), Choice("wait", "start")), 0.5, 1.0, ())
        known = KnownChoices.of(captured.graph)
        known.write(remembered)
        with forerun.optimize(captured) as graph:
            assert graph.search == remembered
        make = code_maker.known_code

        def without_triggers(text: Any, assembler: Any, body: Any, *rest: Any, **more: Any) -> MadeCode | str:
            return "no triggers" if body.has(Trigger) else make(text, assembler, body, *rest, **more)

        monkeypatch.setattr(code_maker, "known_code", without_triggers)
        with forerun.optimize(captured) as graph:
            assert graph.search is not None
            assert graph.search.trials
            assert all(choice.trigger == "none" for choice in graph.search.choices.values())


def test_a_function_whose_wait_cannot_move_hinders_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Timing, "_block", lambda self, executable: 1.0)
    with program() as found:
        found.cuda.cuMemAlloc = lambda size: found.cuda.made("cuMemAlloc", size)  # type: ignore[method-assign]
        make = code_maker.known_code

        def without_first_waits(text: Any, assembler: Any, body: Any, *rest: Any, **more: Any) -> MadeCode | str:
            if "griddepcontrol.wait" in text.text and isinstance(body.roles[0].steps[0], Wait):
                return "its results could differ"
            return make(text, assembler, body, *rest, **more)

        monkeypatch.setattr(code_maker, "known_code", without_first_waits)
        with forerun.optimize(found.capture([FIRST, replace(SECOND, function=WAITS)])) as graph:
            assert graph.unfit == {"scale": "its results could differ"}
            assert graph.search is not None
            assert any(trial.seconds == 1.0 and trial.choice.target == "wait" for trial in graph.search.trials)
