"""Passes by name."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import infra_samples
import pytest
from infra_samples import Nothing, Unregistered

from forerun.ir.graph import Graph
from forerun.passes.infra import registry
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.named_pipelines import EXACT_PIPELINE
from forerun.support.diagnostics import InternalError, InvalidInput


def test_builtin_passes_are_found_by_name() -> None:
    names = EXACT_PIPELINE.split(",")
    assert [registry.get(name).name for name in names] == names


def test_every_builtin_pass_has_a_file_of_its_name() -> None:
    builtin = [c for c in registry.available().values() if c.__module__.startswith("forerun.")]
    assert len(builtin) >= 4
    assert all(c.__module__ == f"forerun.passes.{c.name.replace('-', '_')}" for c in builtin)


def test_available_passes_are_sorted_and_complete() -> None:
    names = list(registry.available())
    assert names == sorted(names)
    assert {"test-nothing", "insert-pdl"} <= set(names)
    assert "test-unregistered" not in names


def test_an_unknown_name_gets_the_closest() -> None:
    with pytest.raises(InvalidInput) as caught:
        registry.get("inser-pdl")
    assert str(caught.value) == "no pass 'inser-pdl'\nhint: did you mean 'insert-pdl'?"


def test_import_paths_are_names_too() -> None:
    assert registry.get("infra_samples:Unregistered") is Unregistered


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "no_such_module:X",
            "module 'no_such_module' cannot be imported: ModuleNotFoundError: No module named 'no_such_module'\n"
            "hint: forerun opt --load no_such_module finds modules of the current folder",
        ),
        ("infra_samples:Nothin", "'infra_samples' has no pass 'Nothin'\nhint: did you mean 'Nothing'?"),
        ("infra_samples:fills", "'infra_samples:fills' is not a pass"),
        ("infra_samples:", "'infra_samples' has no pass ''"),
        ("forerun.passes.infra.base:Pass", "'forerun.passes.infra.base:Pass' is an abstract pass"),
        (":X", "module '' cannot be imported: ValueError"),
    ],
)
def test_wrong_import_paths(path: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        registry.get(path)
    assert str(caught.value).startswith(message)


def test_two_classes_cannot_share_a_name() -> None:
    with pytest.raises(InvalidInput) as caught:

        @registry.register
        @dataclass(frozen=True)
        class Impostor(Nothing):
            """Takes a name that is taken."""

            name: ClassVar[str] = "test-nothing"

    here = f"{__name__}:test_two_classes_cannot_share_a_name.<locals>.Impostor"
    assert str(caught.value) == f"two passes are named 'test-nothing': infra_samples:Nothing and {here}"
    assert registry.get("test-nothing") is Nothing


def make_again() -> type[Pass]:
    @registry.register
    @dataclass(frozen=True)
    class Again(Nothing):
        """Is defined again and again, as in a notebook."""

        name: ClassVar[str] = "test-again"

    return Again


def test_the_same_class_may_be_defined_again() -> None:
    first, second = make_again(), make_again()
    assert first is not second
    assert registry.get("test-again") is second


def test_a_registered_pass_has_a_docstring_and_is_a_dataclass() -> None:
    @dataclass(frozen=True)
    class Silent(Nothing):
        name: ClassVar[str] = "test-silent"

    Silent.__doc__ = None
    with pytest.raises(InternalError, match="pass 'test-silent' has no docstring"):
        registry.register(Silent)

    class Plain(Nothing):
        """Is not a dataclass."""

        name: ClassVar[str] = "test-plain"

    with pytest.raises(InternalError, match="Plain is not a dataclass"):
        registry.register(Plain)


@dataclass(frozen=True)
class Foreign(Pass):
    """Comes from another package."""

    name: ClassVar[str] = "test-foreign"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        return graph


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that declares three passes, of which one is good."""
    module = types.ModuleType("foreign_passes")
    module.Foreign = Foreign  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "foreign_passes", module)
    declared = {
        "test-foreign": "foreign_passes:Foreign",
        "test-gone": "foreign_passes:Gone",
        "test-misnamed": "foreign_passes:Foreign",
    }
    points = {n: EntryPoint(n, v, registry.ENTRY_POINT_GROUP) for n, v in declared.items()}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    yield
    registry._passes.pop("test-foreign", None)


@pytest.mark.usefixtures("installed")
def test_installed_packages_declare_passes() -> None:
    assert registry.get("test-foreign") is Foreign
    assert registry.spelling(Foreign, portable=True) == "test-foreign"


@pytest.mark.usefixtures("installed")
def test_broken_entry_points_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"pass 'test-gone' \(foreign_passes:Gone\) cannot be imported: Attribute"):
        registry.get("test-gone")
    with pytest.raises(InvalidInput, match=r"entry point 'test-misnamed' .* is a pass named 'test-foreign'"):
        registry.get("test-misnamed")
    with pytest.raises(InvalidInput, match="test-gone"):
        registry.available()
    with pytest.raises(InvalidInput, match="did you mean 'test-foreign'"):
        registry.get("test-forein")


def test_spelling() -> None:
    insert_pdl = registry.get("insert-pdl")
    assert registry.spelling(insert_pdl) == registry.spelling(insert_pdl, portable=True) == "insert-pdl"
    assert registry.spelling(Nothing) == "test-nothing"
    assert registry.spelling(Nothing, portable=True) == "infra_samples:Nothing"
    assert registry.spelling(Unregistered) == "infra_samples:Unregistered"


def test_what_another_process_must_load(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.load_argument(registry.get("insert-pdl")) is None
    assert registry.load_argument(Nothing) == infra_samples.__file__
    monkeypatch.setattr(Nothing, "__module__", "package.module")
    assert registry.load_argument(Nothing) == "package.module"


def test_a_script_is_loaded_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    script = types.ModuleType("__main__")
    script.__file__ = "/somewhere/my_passes.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(Nothing, "__module__", "__main__")
    assert registry.spelling(Nothing, portable=True) == "my_passes:Nothing"
    assert registry.load_argument(Nothing) == "/somewhere/my_passes.py"
    del script.__file__  # as in an interactive session
    assert registry.spelling(Nothing, portable=True) == "__main__:Nothing"
