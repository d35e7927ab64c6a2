"""Memory that pointers point into, refined by torch's records; texts beside Triton's images, and NVRTC's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from forerun.captured import MemoryRange
from forerun.runtime.cuda.capture import texts, verified
from forerun.runtime.cuda.capture.memory import refined
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.session import raw_graph
from forerun.runtime.cuda.capture.texts import FoundText, stored_digest, triton_texts
from forerun.support.diagnostics import InvalidInput, Unsupported

SEGMENT = MemoryRange(1000, 100)


def segment(*blocks: tuple[int, int, str], pool: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    found = [{"address": address, "size": size, "state": state} for address, size, state in blocks]
    return {"segment_pool_id": pool, "blocks": found}


def test_blocks_stand_for_their_segment() -> None:
    found = refined(
        [SEGMENT], [segment((1000, 30, "active_allocated"), (1030, 20, "inactive"), (1050, 50, "active_allocated"))]
    )
    assert [(one.address, one.size, one.kind, one.whole) for one in found] == [
        (1000, 30, "device", False), (1030, 20, "free", False), (1050, 50, "device", False),
    ]  # fmt: skip


def test_segments_of_private_pools_stay_whole() -> None:
    assert refined([SEGMENT], [segment((1000, 30, "active_allocated"), pool=(0, 1))]) == (SEGMENT,)


def test_other_memory_stays_as_it_is() -> None:
    managed = MemoryRange(1000, 100, "managed")
    assert refined([managed], [segment((1000, 30, "active_allocated"))]) == (managed,)
    assert refined([SEGMENT], []) == (SEGMENT,)


def test_handles_of_graphs() -> None:
    assert raw_graph(7) == 7
    assert raw_graph(SimpleNamespace(raw_cuda_graph=lambda: 8)) == 8
    assert raw_graph(SimpleNamespace(handle=9)) == 9
    assert raw_graph(SimpleNamespace(graph=10)) == 10
    with pytest.raises(InvalidInput, match="list is not a CUDA graph"):
        raw_graph([])

    def fails() -> int:
        raise RuntimeError("not kept")

    with pytest.raises(Unsupported, match="torch did not keep the graph") as caught:
        raw_graph(SimpleNamespace(raw_cuda_graph=fails))
    assert "keep_graph=True" in str(caught.value)


PTX = ".version 8.7\n.target sm_90a\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(texts, "_ptxas", lambda about: ("/bin/ptxas", "12.8"))
    folder = tmp_path / "ABC"
    folder.mkdir()
    (folder / "k.cubin").write_bytes(b"image")
    (folder / "k.ptx").write_text(PTX)
    (folder / "k.json").write_text(json.dumps({"enable_fp_fusion": False, "ptx_options": "--maxrregcount 64"}))
    return folder


def test_triton_keeps_the_text_beside_the_image(cache: Path) -> None:
    (found,) = triton_texts([stored_digest(b"image\0\0")]).values()
    assert found.text.text == PTX
    assert found.text.options == ("-lineinfo", "--fmad=false", "--maxrregcount", "64")
    assert (found.assembler, found.architecture, found.text.assembler) == ("/bin/ptxas", "sm_90a", "12.8")
    assert triton_texts([stored_digest(b"other")]) == {}


@pytest.mark.parametrize("name", ["k.ptx", "k.json"])
def test_an_image_without_text_or_options(cache: Path, name: str) -> None:
    (cache / name).unlink()
    assert triton_texts([stored_digest(b"image")]) == {}


def test_a_text_counts_if_it_assembles_to_the_loaded_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {("first", ()): b"other", ("first", verified._MORE_OPTIONS[1]): b"", ("second", ()): b"same"}
    monkeypatch.setattr(verified, "assemble_as", lambda text, options, tool, *_: (made.get((tool, options), b""), ""))
    monkeypatch.setattr(verified, "same_code", lambda a, b: a == b)
    monkeypatch.setattr(verified, "_assemblers", lambda first: [first, "second"])
    found = {"digest": FoundText(texts.AssembledText(PTX, (), "12.8"), "first", "sm_90a")}
    (text,) = verified.verified_texts(found, {"digest": b"same"}).values()
    assert (text.assembler, text.text.assembler) == ("second", "")
    assert verified.verified_texts(found, {"digest": b"third"}) == {}


def test_what_the_assembler_makes_by_chance_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    asked: list[str] = []

    def assembled(text: str, *rest: object) -> tuple[bytes, str]:
        asked.append(text)
        return (b"same" if len(asked) == 5 else b"other"), ""

    monkeypatch.setattr(verified, "_assembled", assembled)
    monkeypatch.setattr(verified, "same_code", lambda a, b: a == b)
    monkeypatch.setattr(verified, "_assemblers", lambda first: [first])
    for text, tries in (("tcgen05.alloc", 5), ("tcgen05.alloc", 0), ("add", 2)):
        asked.clear() if text == "add" else None
        before = len(asked)
        found = {"digest": FoundText(texts.AssembledText(text, (), "12.8"), "ptxas", "sm_100a")}
        assert bool(verified.verified_texts(found, {"digest": b"same"})) == (text != "add")
        assert len(asked) - before == tries


def fake_cupy() -> ModuleType:
    module = ModuleType("cupy_backends.cuda.libs.nvrtc")
    module.compileProgram = lambda program, options: None  # type: ignore[attr-defined]
    module.getCUBIN = lambda program: b"cubin"  # type: ignore[attr-defined]
    module.getPTX = lambda program: PTX + "\0"  # type: ignore[attr-defined]
    return module


def test_what_cupy_compiles_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_cupy()
    original = module.getCUBIN
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recorder = NvrtcRecorder()
    with recorder.recording():
        module.compileProgram(5, ("-arch=sm_90", "-lineinfo", "-fmad=false", "--maxrregcount=32", "-Xptxas", "-O1,-v"))
        assert module.getCUBIN(5) == b"cubin"
    assert module.getCUBIN is original
    (text,) = recorder.texts.values()
    assert text.text == PTX
    assert text.options == ("--generate-line-info", "--fmad=false", "--maxrregcount=32", "-O1", "-v")
    assert recorder.texts.keys() == {stored_digest(b"cubin\0")}


def test_modules_that_are_imported_later_are_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cupy_backends" / "cuda" / "libs"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").touch()
    (place / "nvrtc.py").write_text(
        "compileProgram = lambda program, options: None\n"
        "getCUBIN = lambda program: b'cubin'\n"
        "getPTX = lambda program: '.version 9.0'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("cupy_backends")]:
        monkeypatch.delitem(sys.modules, name)
    recorder = NvrtcRecorder()
    with recorder.recording():
        from cupy_backends.cuda.libs import nvrtc  # type: ignore[import-not-found]

        nvrtc.getCUBIN(1)
    assert len(recorder.texts) == 1
    for name in [name for name in sys.modules if name.startswith("cupy_backends")]:
        monkeypatch.delitem(sys.modules, name)
