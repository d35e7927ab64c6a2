"""Debug runs compare what copies read from the host with what was recorded, and with what was folded."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

import forerun
from forerun.external.debug import check_on_gpu
from tests.captured.samples import BLOCKS, SCALE, kernel
from tests.external.running_cuda import ReadText, RunningCuda
from tests.external.test_debug import CTAS, THREADS, inputs, live, texts_as_code
from tests.external.test_folded_copies import copy_of
from tests.runtime.cuda.capture.test_reading_and_clones import pointer

__all__ = ["texts_as_code"]

pytestmark = pytest.mark.usefixtures("texts_as_code")


class CopyingCuda(RunningCuda):
    """Runs copies from the host, too."""

    def _own(self, node: int) -> Any:
        return super()._own(node) if self._launches(node) else ("", "copy", ())

    def _read(self, text: str, name: str) -> Any:
        return super()._read(text, name) if text else ReadText((), None, waits=True)  # type: ignore[arg-type]

    def _run(self, node: int, text: str, name: str, values: tuple[int, ...]) -> None:
        params = self.nodes[node].params
        if text:
            super()._run(node, text, name, values)
        else:
            self.memory.put(params.dstDevice, ctypes.string_at(params.srcHost, params.WidthInBytes))

    def _launches(self, node: int) -> bool:
        return hasattr(self.nodes[node].params, "kernelParams")

    def cuGraphDestroyNode(self, place: tuple[int, int]) -> tuple[int]:  # type: ignore[override]  # noqa: N802
        del self.graphs[place[0]]["nodes"][place[1]]
        return (0,)

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, stream: Any) -> tuple[int]:  # noqa: N802
        return self.cuMemcpyHtoD(to, source, size)


@pytest.mark.parametrize("fold", [True, False])
def test_sources_that_change_in_a_debug_run_are_told(monkeypatch: pytest.MonkeyPatch, fold: bool) -> None:
    cuda = CopyingCuda(kernel("scale", *SCALE))
    cuda.add_function(7, "scale", [8, 8, 8])
    params, source = copy_of(BLOCKS["w0"], bytes(range(32)))
    cuda.add(1, "MEMCPY", params)
    cuda.add_kernel(2, 7, *map(pointer, ("w0", "x", "y")), grid=CTAS)
    cuda.nodes[2].params.blockDimX = THREADS
    cuda.connect(1, 2)
    with forerun.optimize(live(cuda, monkeypatch), pipeline="", fold_params=fold) as graph:
        assert graph.folded == (("n0",) if fold else ())
        report = check_on_gpu(graph, inputs(cuda), steps=2, seeds=2)
        assert (report.is_clean, report.changed_sources, report.stale_copies) == (True, (), ())

        def prepare(step: int) -> None:
            inputs(cuda)(step)
            source[0] = bytes([step * 7])  # as it was in the first step, and another in the second

        report = check_on_gpu(graph, prepare, steps=2, seeds=2)
        assert report.changed_sources == ("n0",)
        assert report.stale_copies == graph.folded
        assert report.is_clean == (not fold)
        said = "n0: its source on the host changed"
        assert str(report).splitlines()[-1] == said + (", and replays do not repeat the copy" if fold else "")
