"""Graphs that a program captures again and again, a little different each time, on the fake driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from forerun.captured import AssembledText
from forerun.captured.graph import digest_of
from forerun.ir.kernel import Wait
from forerun.runtime.cuda.capture import code_maker
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.session import CaptureSession, LiveCapture
from forerun.runtime.cuda.capture.texts import FoundText
from forerun.runtime.cuda.driver.driver import Driver
from tests.captured.samples import BLOCKS, kernel
from tests.runtime.cuda.capture.fake import handle
from tests.runtime.cuda.capture.updatable import UpdatableCaptures

__all__ = ["AGAIN", "OPAQUE", "OTHER", "SCALE", "WAITS", "Program", "Spec", "changes", "program", "specs"]

_POINTERS = ", ".join(f".param .u64 .ptr .global {name}" for name in "wxy")
_PARAMETERS = f"{_POINTERS}, .param .u32 n, .param .u32 f"
_LINES = (
    "ld.param.u32 %r6, [n];", "ld.param.u32 %r7, [f];", "mov.u32 %r5, %ctaid.x;", "mad.lo.s32 %r4, %r5, 128, %r1;",
    "setp.ge.s32 %p1, %r4, %r6;", "@%p1 ret;", "mul.wide.s32 %rd7, %r4, 4;", "add.s64 %rd4, %rd1, %rd7;",
    "add.s64 %rd5, %rd2, %rd7;", "add.s64 %rd6, %rd3, %rd7;", "ld.global.nc.u32 %r2, [%rd4];",
    "ld.global.u32 %r3, [%rd5];", "add.u32 %r3, %r3, %r2;", "add.u32 %r3, %r3, %r7;", "st.global.u32 [%rd6], %r3;",
)  # fmt: skip
_TEXTS = {
    b"image": kernel("scale", *_LINES, parameters=_PARAMETERS),
    b"other": kernel("scale", *_LINES[:-1], "st.global.u32 [%rd5], %r3;", parameters=_PARAMETERS),
    b"waits": kernel("scale", *_LINES[:4], *_LINES[6:11], "griddepcontrol.wait;", *_LINES[11:], parameters=_PARAMETERS),
}
SCALE, AGAIN, OTHER, OPAQUE, WAITS = 7, 8, 9, 10, 11
"""Functions: one, the same from another load of its image, other code of the same name, one without an image, and one
that loads, and waits then."""

_UNFIT_GRID = 13


@dataclass(frozen=True)
class Spec:
    """A node: the handle of its function, or 0 for a fill and -1 for a host function; all in it may change."""

    function: int = SCALE
    blocks: tuple[str, str, str] = ("w0", "x", "y")
    count: int = 400
    factor: int = 1
    grid: int = 4
    attributes: tuple[tuple[str, Any], ...] = ()
    inside: bool = False
    """Whether it is alone in a child graph."""


@dataclass
class Program:
    """A program that captures graphs on a fake driver."""

    cuda: UpdatableCaptures
    session: CaptureSession
    captures: int = field(default=0)

    def put(self, nodes: list[Spec], edges: Mapping[int, int] = MappingProxyType({}), first: int = 1) -> None:
        """What its graph is now: a chain, whose edges are full but for those that are named by their sources."""
        cuda = self.cuda
        for known in (cuda.nodes, cuda.edges, cuda.inside):
            known.clear()
        for number, spec in enumerate(nodes, first):
            inner = number + 500 if spec.inside else number
            self._add(inner, spec)
            if spec.inside:
                cuda.add_child(number, inner)
            if number > first:
                kind = edges.get(number - first - 1, 0)
                cuda.connect(number - 1, number, kind, kind)

    def _add(self, number: int, spec: Spec) -> None:
        cuda = self.cuda
        if spec.function > 0:
            words = [word.to_bytes(4, "little") for word in (spec.count, spec.factor)]
            pointers = [BLOCKS[name].to_bytes(8, "little") for name in spec.blocks]
            cuda.add_kernel(number, spec.function, *pointers, *words, grid=spec.grid)
            cuda.nodes[number].attributes = dict(spec.attributes)
        elif spec.function == 0:
            where = {"dst": BLOCKS[spec.blocks[2]], "pitch": spec.count, "value": spec.factor}
            cuda.add(number, "MEMSET", SimpleNamespace(**where, elementSize=1, width=spec.grid, height=1))
        else:
            cuda.add(number, "HOST", SimpleNamespace(fn=spec.count, userData=spec.factor))

    def capture(self, nodes: list[Spec], edges: Mapping[int, int] = MappingProxyType({})) -> LiveCapture:
        """Another graph of the program, with handles of its own."""
        self.captures += 1
        self.put(nodes, edges, 1 + 1000 * self.captures)
        return self.session.graph(handle(3 + self.captures))


@contextmanager
def program() -> Iterator[Program]:
    """A program whose images are seen, and whose texts are known. Not all code for them is fit."""
    recorder, cuda = ImageRecorder(), UpdatableCaptures()
    recorder.images.update({digest_of(image): image for image in _TEXTS})
    for function, image in ((SCALE, b"image"), (AGAIN, b"image"), (OTHER, b"other"), (WAITS, b"waits")):
        cuda.add_function(function, "scale", [8, 8, 8, 4, 4])
        recorder.by_module[10 * function] = digest_of(image)
    cuda.add_function(OPAQUE, "opaque", [8, 8, 8, 4, 4])
    found = {
        digest_of(image): FoundText(AssembledText(text, ("-O3",), "13.0", "tests"), "/bin/ptxas", "sm_90a")
        for image, text in _TEXTS.items()
    }

    def make(
        text: Any, assembler: Any, body: Any, function: Any, image: Any, node: Any, *rest: Any, **more: Any
    ) -> MadeCode | str:
        if node.grid[0] == _UNFIT_GRID and body.has(Wait):
            return "too few of its CTAs fit"
        return MadeCode(repr((text.text, body.roles)).encode(), 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptureSession, "_texts", lambda self, images: {one: found[one] for one in images})
        patch.setattr("forerun.runtime.cuda.capture.verified.verified_texts", lambda texts, images: texts)
        patch.setattr(code_maker, "known_code", make)
        yield Program(cuda, CaptureSession(recorder, NvrtcRecorder(), Driver(cuda), started_late=False))


_names = st.sampled_from(sorted(BLOCKS))
_values: dict[str, st.SearchStrategy[Any]] = {
    "function": st.sampled_from([SCALE, AGAIN, OTHER, OPAQUE]),
    "blocks": st.tuples(_names, _names, _names),
    "count": st.sampled_from([0, 100, 400]),
    "factor": st.integers(0, 3),
    "grid": st.sampled_from([2, 4, _UNFIT_GRID]),
    "attributes": st.sampled_from([(), (("cluster", (2, 1, 1)),), (("priority", -1),), (("remote_domain", 0),)]),
}


@st.composite
def specs(draw: st.DrawFn) -> list[Spec]:
    """A few nodes; mostly kernels whose PTX is known."""
    nodes = []
    for number in range(draw(st.integers(1, 4))):
        function = draw(st.sampled_from([SCALE, SCALE, SCALE, SCALE, OTHER, OPAQUE, 0, -1]))
        inside = draw(st.sampled_from([False] * 7 + [True]))
        nodes.append(Spec(function, draw(_values["blocks"]), factor=number % 3, inside=inside))
    return nodes


@st.composite
def changes(draw: st.DrawFn, nodes: list[Spec]) -> list[Spec]:
    """The same nodes, some of them changed in one or two ways; now and then one more, or one less."""
    found = list(nodes)
    for number in draw(st.lists(st.integers(0, len(nodes) - 1), max_size=2)):
        spec = found[number]
        field = draw(st.sampled_from(["blocks", "count", "factor", "factor", "grid", "attributes", "function"]))
        if field not in ("attributes", "function") or spec.function > 0:
            found[number] = replace(spec, **{field: draw(_values[field])})
    length = draw(st.sampled_from(["same"] * 8 + ["longer", "shorter"]))
    if length == "longer":
        found.append(draw(specs())[0])
    return found[:-1] if length == "shorter" and len(found) > 1 else found
