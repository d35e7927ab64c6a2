"""Code of changed kernels is made once: by the text, the body, the launch, and the tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forerun.captured import AssembledText
from forerun.frontends.captured import import_capture
from forerun.ir.kernel import Kernel, Trigger, Wait
from forerun.runtime.cuda.capture import known_code as module
from forerun.runtime.cuda.capture.assembled import NOT_ASSEMBLED, MadeCode
from forerun.runtime.cuda.capture.known_code import known_code
from tests.captured.samples import SCALE, captured, kernel, launch

TEXT = kernel("scale", *SCALE)
GRAPH = captured([TEXT], [launch(0, "w0", "x", "y")])
(OWN,) = import_capture(GRAPH).graph.kernels.values()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[MadeCode | str]:
    """What is made from now on; the tools are there."""
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    found: list[MadeCode | str] = []

    def make(*_: object, **more: object) -> MadeCode | str:
        found.append(answers[len(found)])
        return found[-1]

    answers = [MadeCode(b"\0code\0", 2, ("too large",), "text", 1), "it spills", f"{NOT_ASSEMBLED}: busy", "it spills"]
    monkeypatch.setattr(module, "make_code", make)
    monkeypatch.setattr(module, "require_disassembler", lambda: Tool)
    return found


class Tool:
    version = (13, 0)


def ask(kernel: Kernel = OWN, text: str = TEXT, grid: int = 4, **more: Any) -> MadeCode | str:
    function, node = GRAPH.functions[0], replace(GRAPH.nodes[0], grid=(grid, 1, 1))
    return known_code(AssembledText(text), ("ptxas", "sm_90a"), kernel, function, b"", node, 132, **more)


def test_it_is_made_once(made: list[MadeCode | str]) -> None:
    first = ask()
    assert ask() == ask(replace_name(OWN)) == first == MadeCode(b"\0code\0", 2, ("too large",), "text", 1)
    assert len(made) == 1
    assert ask(grid=5) == ask(grid=5) == "it spills"
    assert len(made) == 2


def test_what_the_assembler_refused_is_asked_again(made: list[MadeCode | str]) -> None:
    for count, grid in enumerate((1, 2, 3, 3), 1):
        ask(grid=grid)
        assert len(made) == count


@pytest.mark.parametrize("other", ["body", "text", "launch", "form"])
def test_what_it_depends_on(made: list[MadeCode | str], other: str) -> None:
    ask()
    (role,) = OWN.roles or ()
    changed = Kernel(OWN.name, OWN.parameters, (replace(role, steps=(Trigger(), Wait(), *role.steps)),))
    arguments: dict[str, dict[str, Any]] = {
        "body": {"kernel": changed}, "text": {"text": TEXT + "\n"}, "launch": {"grid": 5}, "form": {"prefetches": True},
    }  # fmt: skip
    assert ask(**arguments[other]) == "it spills"
    assert len(made) == 2


def replace_name(kernel: Kernel) -> Kernel:
    return kernel.with_roles("other", kernel.roles or ())
