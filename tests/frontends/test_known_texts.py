"""What PTX says of kernels is kept: by the text, the kernel, its parameters, and the launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from forerun.frontends import known_texts
from forerun.frontends.captured import import_capture
from forerun.frontends.known_texts import KnownTexts
from forerun.ir.kernel import Phase
from forerun.runtime.source_version import source_version
from tests.captured.samples import SCALE, captured, kernel, launch
from tests.ptx.texts import DATA

TEXTS = [kernel("first", *SCALE), kernel("second", "griddepcontrol.wait;", *SCALE, "griddepcontrol.launch_dependents;")]
NODES = [launch(0, "w0", "x", "y"), launch(1, "w1", "y", "z")]


def never(*_: object) -> None:
    raise AssertionError("it was parsed again")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))


def test_a_graph_is_imported_again_without_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = captured(TEXTS, NODES)
    first = import_capture(graph)
    assert {len(kernel.phases) for kernel in first.graph.kernels.values()} == {3}
    monkeypatch.setattr(known_texts, "parse_module", never)
    again = import_capture(graph)
    assert (again.graph, again.reasons, again.weighed) == (first.graph, first.reasons, first.weighed)


def test_other_launches_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    import_capture(captured(TEXTS, NODES))
    monkeypatch.setattr(known_texts, "parse_module", never)
    null = launch(0, "w0", "x", bytes(8))
    with pytest.raises(AssertionError, match="parsed again"):
        import_capture(captured(TEXTS, [null, NODES[1]]))


def test_reasons_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = captured([kernel("first", "ld.global.u64 %rd8, [%rd4];", "st.global.u32 [%rd8], %r1;")], NODES[:1])
    first = import_capture(graph)
    assert "pointer that is not a parameter" in first.reasons["n0"]
    monkeypatch.setattr(known_texts, "parse_module", never)
    assert import_capture(graph).reasons == first.reasons


@pytest.mark.parametrize("name", sorted(DATA))
def test_texts_of_compilers(name: str) -> None:
    graph = captured([DATA[name]], [])
    (function,) = graph.functions
    nulls = (False,) * len(function.parameters)
    first, again = (KnownTexts().read(graph.texts[function.text], function, nulls) for _ in range(2))
    assert (again.kernel, again.reason, again.names) == (first.kernel, first.reason, first.names)
    assert bool(first.kernel) != bool(first.reason)
    if first.kernel is not None and first.ranges is not None and again.ranges is not None:
        assert any(isinstance(step, Phase) for role in first.kernel.roles or () for step in role.steps)
        assert (again.ranges.scalars, again.ranges.size) == (first.ranges.scalars, first.ranges.size)


def test_the_version_is_that_of_all_sources_of_a_package() -> None:
    assert source_version("ptx") == source_version("ptx") != source_version("ptx", "support")
