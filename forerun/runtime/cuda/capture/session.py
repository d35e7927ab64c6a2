"""``forerun.capture()``: sees the images that a program loads, and reads the graphs that it captures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forerun.captured import CapturedGraph, save_capture
from forerun.captured.graph import AssembledText, CapturedFunction, digest_of
from forerun.runtime.cuda.capture.comparison import Reading, compare_captures
from forerun.runtime.cuda.capture.copies import CopyRecorder
from forerun.runtime.cuda.capture.cupti import Subscription
from forerun.runtime.cuda.capture.host_sources import host_sources, looked_at_again
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.memory import memory_of, refined
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.reading import GraphReader, Handles
from forerun.runtime.cuda.capture.texts import FoundText, stored_digest, triton_texts
from forerun.runtime.cuda.driver.driver import Driver, driver
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["CaptureSession", "LiveCapture", "capture", "latest_session", "raw_graph", "read_graph"]

_ENTRY = ".text."


@dataclass(frozen=True)
class LiveCapture:
    """A captured graph whose program still lives.

    Attributes:
        graph: What was captured.
        handles: The driver's handles of its nodes and functions.
        source: What the program calls its graph, kept so that its memory stays.
        assemblers: For each text of :attr:`graph`, the path of the ptxas that makes its image, and the architecture.
        driver: The driver.
        session: What read it; ``None`` if no program of this process captured it, so that none changes it either.
    """

    graph: CapturedGraph
    handles: Handles
    source: Any
    assemblers: Mapping[str, tuple[str, str]]
    driver: Driver
    session: CaptureSession | None = field(repr=False)

    @property
    def host_sources(self) -> Mapping[int, bytes]:
        """What small copies from the host bring, by the number of the node."""
        return {number: source.contents for number, source in self.graph.host_sources.items()}

    def changes(self) -> str:
        """What of the program's graph is not any more as it was captured, for people; empty if all of it is.

        Compared is what :func:`~forerun.runtime.cuda.capture.comparison.compare_captures` compares, and the handles of
        nodes; memory is not looked at.

        Raises:
            Unsupported: If torch's graph was reset.
            CudaError: If the driver fails.
        """
        return "" if self.session is None else self.session.changes(self)

    def again(self) -> LiveCapture:
        """What is captured now; it is this one where nothing can have changed.

        What copies from the host bring is what their sources hold now, and not what they held in the capture.

        Raises:
            Unsupported: If torch's graph was reset.
            CudaError: If the driver fails.
        """
        return self if self.session is None else self.session.graph(self.source, as_captured=False)

    def save(self, folder: str | Path) -> Path:
        """Write the captured graph to a folder; see :func:`forerun.captured.save_capture`.

        Sources of copies from the host are looked at again, so that the folder tells which of them changed.
        """
        return save_capture(looked_at_again(self.driver, self.graph), folder)

    def __str__(self) -> str:
        return str(self.graph)


class CaptureSession:
    """What :func:`capture` gives: the images that were seen, and the way to graphs.

    Attributes:
        recorder: The images.
        compiled: The PTX of what NVRTC compiled.
        started_late: Whether CUDA was at work before, so that images of that time were not seen.
        copies: What copies from the host brought when they were captured; ``None`` if nobody looked.
    """

    def __init__(
        self,
        recorder: ImageRecorder,
        compiled: NvrtcRecorder,
        own: Driver,
        started_late: bool,
        copies: CopyRecorder | None = None,
    ) -> None:
        self.recorder = recorder
        self.compiled = compiled
        self.copies = copies
        self.started_late = started_late
        self._driver = own
        # Texts are there before their code is loaded; to look for them takes long. Without one that fits: none, and
        # whether there was one of other code.
        self._looked_for: dict[str, tuple[FoundText | None, bool]] = {}

    def graph(self, source: Any, *, as_captured: bool = True) -> LiveCapture:
        """Read a graph.

        Args:
            source: A ``torch.cuda.CUDAGraph(keep_graph=True)`` that was captured, a graph of CuPy or cuda.core, a
                ``CUgraph`` of the bindings, or its handle as an integer. Its context must be current.
            as_captured: Whether copies from the host bring what their sources held when they were captured; otherwise
                what these hold now.

        Raises:
            InvalidInput: If it is none of these.
            Unsupported: If the graph was not kept.
            CudaError: If the driver fails.
        """
        reader = self._reader()
        read, handles = reader.read(self._handle(source))
        used = {one.image for one in reader.functions if one.image}
        images = {digest: self.recorder.images[digest] for digest in used}
        found, other_code = self._verified(images)
        functions = tuple(_with_text(one, found) for one in reader.functions)
        texts: dict[str, AssembledText] = {digest: one.text for digest, one in _by_text(found).items()}
        recorded = self._recorded(read, handles) if as_captured else {}
        sources = host_sources(self._driver, read, recorded)
        remarks = tuple(self._remarks(functions, other_code, len(sources.keys() - recorded) if as_captured else 0))
        graph = replace(
            read.with_functions(functions),
            images=images,
            texts=texts,
            machine=self._machine(),
            remarks=remarks,
            host_sources=sources,
        )
        graph = replace(graph, memory=refined(memory_of(self._driver, graph)))
        assemblers = {digest: (one.assembler, one.architecture) for digest, one in _by_text(found).items()}
        return LiveCapture(graph, handles, source, assemblers, self._driver, self)

    def changes(self, live: LiveCapture) -> str:
        """What differs when a graph that was read before is read again; see :meth:`LiveCapture.changes`."""
        read, handles = self._reader().read(self._handle(live.source))
        texts = {one.image: one.text for one in live.graph.functions}
        functions = tuple(replace(one, text=texts.get(one.image, "")) for one in read.functions)
        graph = replace(read.with_functions(functions), memory=live.graph.memory)
        difference = compare_captures(live, Reading(graph, handles))
        if difference.is_empty and handles.numbers() != live.handles.numbers():
            return "the nodes are other ones, which do the same"
        return difference.reason

    def _handle(self, source: Any) -> Any:
        return self._driver.api.CUgraph(init_value=raw_graph(source))

    def _reader(self) -> GraphReader:
        return GraphReader(self._driver, self._image_of(self._entries()))

    def _recorded(self, graph: CapturedGraph, handles: Handles) -> dict[int, bytes]:
        """What copies from the host brought when they were captured, as far as that was seen, by number."""
        if self.copies is None:
            return {}
        found = {
            number: self.copies.contents(int(handle), node.transfer)
            for number, (node, handle) in enumerate(zip(graph.nodes, handles.nodes, strict=True))
            if node.kind == "memcpy" and node.transfer is not None
        }
        return {number: contents for number, contents in found.items() if contents is not None}

    def _verified(self, images: Mapping[str, bytes]) -> tuple[Mapping[str, FoundText], int]:
        """The PTX that images were assembled from, and of how many there is only PTX of other code."""
        from forerun.runtime.cuda.capture.verified import verified_texts  # the toolchain is not needed to import this

        new = {digest: image for digest, image in images.items() if digest not in self._looked_for}
        known = self._texts(new)
        found = verified_texts(known, new)
        self._looked_for |= {one: (found.get(one), one in known and one not in found) for one in new}
        looked_for = {one: self._looked_for[one] for one in images}
        texts = {one: text for one, (text, _) in looked_for.items() if text is not None}
        return texts, sum(is_other for _, is_other in looked_for.values())

    def _texts(self, images: Mapping[str, bytes]) -> Mapping[str, FoundText]:
        """The PTX of images, as far as NVRTC made it within the session, or Triton keeps it."""
        stored = {stored_digest(code): image for image, code in images.items()}
        found = {one: text for one in stored if (text := self.compiled.found(one)) is not None}
        found |= triton_texts(stored.keys() - found.keys())
        return {stored[one]: text for one, text in found.items()}

    def _entries(self) -> Mapping[str, list[str]]:
        """The images that hold a kernel of each name, of those that no module's handle stands for."""
        from forerun.runtime.toolchain.elf import section_sizes

        found: dict[str, list[str]] = {}
        for digest in self.recorder.unclaimed:
            try:
                names = section_sizes(self.recorder.images[digest])
            except ValueError:
                continue
            for name in names:
                if name.startswith(_ENTRY):
                    found.setdefault(name.removeprefix(_ENTRY), []).append(digest)
        return found

    def _image_of(self, entries: Mapping[str, list[str]]) -> Any:
        """The image of a function: its module's; else the one that has a kernel of that name alone."""

        def find(own: Driver, function: Any, name: str) -> str:
            error, *module = own.function("cuFuncGetModule")(function)
            digest = None if error else self.recorder.by_module.get(int(module[0]))
            candidates = entries.get(name, [])
            return digest or (candidates[0] if len(candidates) == 1 else "")

        return find

    def _machine(self) -> Mapping[str, str]:
        from forerun.runtime.cuda.driver.device import release_of

        device = self._driver.call("cuCtxGetDevice")
        name = self._driver.call("cuDeviceGetName", 256, device)
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return {"gpu": text.partition("\0")[0].strip(), "driver": release_of(self._driver)}

    def _remarks(self, functions: tuple[CapturedFunction, ...], other_code: int, read_late: int) -> Iterator[str]:
        unseen = sum(not one.image for one in functions)
        if unseen:
            reason = "; enter forerun.capture() before the program first uses CUDA" if self.started_late else ""
            yield f"the images of {unseen} of {len(functions)} functions were not seen{reason}"
        if other_code:
            yield f"PTX of {other_code} images was found, but assembles to other code than what is loaded"
        if read_late:
            copies = "a copy from the host brings" if read_late == 1 else f"{read_late} copies from the host bring"
            yield f"what {copies} was read after the capture, not within it: its source may have changed in between"
        failures = [*self.recorder.failures, *(self.copies.failures if self.copies is not None else ())]
        yield from (f"CUPTI: {failure}" for failure in failures)


@contextmanager
def capture() -> Iterator[CaptureSession]:
    """See the images that are loaded within the block. Enter it before the program first uses CUDA.

    Example::

        with forerun.capture() as session:
            import torch
            ...
            graph = torch.cuda.CUDAGraph(keep_graph=True)
            with torch.cuda.graph(graph):
                step()
            captured = session.graph(graph)

    Raises:
        Unsupported: If there is no driver or no CUPTI, or a profiler holds it.
    """
    global _latest
    own = driver()
    started_late = _is_at_work(own)
    recorder, compiled, copies = ImageRecorder(), NvrtcRecorder(), CopyRecorder(own)
    session = CaptureSession(recorder, compiled, own, started_late, copies)
    with Subscription(recorder, copies).recording(), compiled.recording():
        _latest = session
        yield session


def read_graph(source: Any) -> LiveCapture:
    """What the latest session of this process reads of a graph; what was read before stays as it is.

    Raises:
        InvalidInput: If it is not a graph.
        Unsupported: If there was no session.
    """
    if isinstance(source, LiveCapture):
        return source
    raw_graph(source)
    return latest_session().graph(source)


def latest_session() -> CaptureSession:
    """The latest session of this process.

    Raises:
        Unsupported: If there was none.
    """
    if _latest is None:
        hint = "with forerun.capture() as session: ... around the program, from before it first uses CUDA"
        raise Unsupported("the graph's kernels were not seen when they were loaded", hint=hint)
    return _latest


_latest: CaptureSession | None = None
"""What it has seen stays, after its block, too."""


def raw_graph(source: Any) -> int:
    """The driver's handle of somebody's graph.

    Raises:
        InvalidInput: If it is not a graph.
        Unsupported: If it is torch's, and was not kept.
    """
    if type(source) is int:
        return source
    if type(source).__name__ == "CUgraph":
        return int(source)
    raw = getattr(source, "raw_cuda_graph", None)
    if raw is not None:
        try:
            return int(raw())
        except RuntimeError as error:
            hint = "make it with torch.cuda.CUDAGraph(keep_graph=True), and capture before"
            raise Unsupported("torch did not keep the graph", hint=hint) from error
    for attribute in ("handle", "graph"):  # cuda.core, CuPy
        found = getattr(source, attribute, None)
        if found is not None and not callable(found):
            return int(found)
    hint = "pass a graph of torch, CuPy or cuda.core, or the handle of a CUgraph"
    raise InvalidInput(f"{type(source).__name__} is not a CUDA graph", hint=hint)


def _is_at_work(own: Driver) -> bool:
    """Whether a primary context is active, so that modules may have been loaded before."""
    error, *count = own.function("cuDeviceGetCount")()
    if error:
        return False  # the driver was not even initialized
    for index in range(int(count[0])):
        error, *state = own.function("cuDevicePrimaryCtxGetState")(own.call("cuDeviceGet", index))
        if not error and int(state[1]):
            return True
    return False


def _by_text(found: Mapping[str, FoundText]) -> dict[str, FoundText]:
    return {digest_of(one.text.text): one for one in found.values()}


def _with_text(one: CapturedFunction, found: Mapping[str, FoundText]) -> CapturedFunction:
    text = found.get(one.image)
    return one if text is None else replace(one, text=digest_of(text.text.text))
