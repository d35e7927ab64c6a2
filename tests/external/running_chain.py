"""A chain of captured kernels that the running driver runs, live and optimized."""

from __future__ import annotations

from typing import Any

import pytest

import forerun
from forerun.captured import AssembledText
from forerun.captured.graph import digest_of
from forerun.external import node_texts
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.external.optimized import OptimizedGraph
from forerun.runtime.cuda.capture import code_maker
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.session import CaptureSession, LiveCapture
from forerun.runtime.cuda.capture.texts import FoundText
from forerun.runtime.cuda.codegen.foreign import follow_body
from forerun.runtime.cuda.driver.driver import Driver
from tests.captured.samples import BLOCKS, SCALE, kernel
from tests.external.running_cuda import RunningCuda, compiled

__all__ = ["CTAS", "NODES", "TEXT", "THREADS", "chain", "inputs", "live", "optimized", "pointer", "texts_as_code"]

TEXT = kernel("scale", *SCALE)
THREADS, CTAS = 4, 2
NODES = 4


def pointer(name: str) -> bytes:
    return BLOCKS[name].to_bytes(8, "little")


def chain(text: str = TEXT) -> RunningCuda:
    """``y = w0 + x``, ``z = w1 + y``, ``x = w0 + z``, ``y = w1 + x``: the last one overwrites what the second reads."""
    cuda = RunningCuda(text)
    cuda.add_function(7, "scale", [8, 8, 8])
    for number, blocks in enumerate([("w0", "x", "y"), ("w1", "y", "z"), ("w0", "z", "x"), ("w1", "x", "y")], 1):
        cuda.add_kernel(number, 7, *map(pointer, blocks), grid=CTAS)
        cuda.nodes[number].params.blockDimX = THREADS
        if number > 1:
            cuda.connect(number - 1, number)
    for number, name in enumerate(BLOCKS):
        cuda.memory.put(BLOCKS[name], bytes(range(number, 64 + number)))
    return cuda


@pytest.fixture
def texts_as_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ptxas makes of a text is the text."""

    def make(text: AssembledText, assembler: Any, body: Any, function: Any, *rest: Any, **more: Any) -> MadeCode:
        followed = follow_body(text.text, body, function.name)
        return MadeCode(followed.text.encode(), followed.early_loads, (), followed.text)

    monkeypatch.setattr(code_maker, "known_code", make)
    monkeypatch.setattr(node_texts, "assemble_as", lambda text, *rest: (text.encode(), ""))
    monkeypatch.setattr("forerun.runtime.toolchain.compile_unit", compiled)


def live(cuda: RunningCuda, monkeypatch: pytest.MonkeyPatch) -> LiveCapture:
    recorder = ImageRecorder()
    recorder.images[digest_of(b"image")] = b"image"
    recorder.by_module[70] = digest_of(b"image")
    found = {digest_of(b"image"): FoundText(AssembledText(cuda.text, ("-O3",), "13.0", "tests"), "/ptxas", "sm_90a")}
    monkeypatch.setattr(CaptureSession, "_texts", lambda self, images: found)
    monkeypatch.setattr("forerun.runtime.cuda.capture.verified.verified_texts", lambda texts, images: texts)
    return CaptureSession(recorder, NvrtcRecorder(), Driver(cuda), started_late=False).graph(3)


def optimized(cuda: RunningCuda, monkeypatch: pytest.MonkeyPatch) -> OptimizedGraph:
    found = live(cuda, monkeypatch)
    return forerun.optimize(found, pipeline=CAPTURED_PIPELINE)


def inputs(cuda: RunningCuda) -> Any:
    """Puts other numbers into x for each step."""
    return lambda step: cuda.memory.put(BLOCKS["x"], bytes((step * 37 + number * 11) % 256 for number in range(64)))
