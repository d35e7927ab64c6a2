"""A captured graph of two launches of a kernel that scales, on the fake driver."""

from __future__ import annotations

from typing import Any

import pytest

from forerun.captured.graph import digest_of
from forerun.runtime.cuda.capture.copies import CopyRecorder
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.session import CaptureSession, LiveCapture
from forerun.runtime.cuda.capture.texts import AssembledText, FoundText
from forerun.runtime.cuda.driver.driver import Driver
from tests.captured.samples import BLOCKS, SCALE, kernel
from tests.runtime.cuda.capture.fake import FakeCuda, handle

__all__ = ["PIPELINE", "TEXT", "cuda", "live", "pointer"]

TEXT = kernel("scale", *SCALE)
PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"


def pointer(name: str) -> bytes:
    return BLOCKS[name].to_bytes(8, "little")


@pytest.fixture
def cuda() -> FakeCuda:
    found = FakeCuda()
    found.add_function(7, "scale", [8, 8, 8])
    found.add_kernel(1, 7, pointer("w0"), pointer("x"), pointer("y"))
    found.add_kernel(2, 7, pointer("w1"), pointer("y"), pointer("z"))
    found.connect(1, 2)
    return found


def live(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, source: Any = None, copies: CopyRecorder | None = None
) -> LiveCapture:
    """The graph as a session reads it, the image of its function seen and its text known."""
    recorder = ImageRecorder()
    recorder.images[digest_of(b"image")] = b"image"
    recorder.by_module[70] = digest_of(b"image")
    found = {digest_of(b"image"): FoundText(AssembledText(TEXT, ("-O3",), "13.0", "tests"), "/bin/ptxas", "sm_90a")}
    monkeypatch.setattr(CaptureSession, "_texts", lambda self, images: found)
    monkeypatch.setattr("forerun.runtime.cuda.capture.verified.verified_texts", lambda texts, images: texts)
    session = CaptureSession(recorder, NvrtcRecorder(), Driver(cuda), started_late=False, copies=copies)
    return session.graph(handle(3) if source is None else source)
