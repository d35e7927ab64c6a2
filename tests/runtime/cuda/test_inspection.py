"""What the CUDA target tells of the machine code: remarks of a program, and the choice among candidates."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.ir.kernel import Implementation, Kernel
from forerun.ir.nodes import Launch
from forerun.ir.trust import vouch
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen import build
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.sass import inspection
from forerun.runtime.cuda.sass.inspection import inspect_code
from forerun.runtime.toolchain import Source, missing_toolchain
from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.ptxas import assemble
from forerun.support.diagnostics import InternalError, Location
from tests.runtime.cuda.hoist_samples import PLAIN, UNORDERED, N, all_steps, hoisting_graph, weigh_kernel
from tests.runtime.cuda.support import fake_code, on_fake

needs_toolchain = pytest.mark.skipif(missing_toolchain() is not None, reason=str(missing_toolchain()))

WEIGHTS = {f"w{number}": np.ones(N, np.float32) for number in range(3)}


@needs_toolchain
def test_remarks_reach_the_summary_the_dump_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = weigh_kernel(tmp_path, UNORDERED)
    graph = hoisting_graph(kernel, pipeline="", launch=Launch((132, 1, 1), (N, 1, 1)))
    with on_fake(monkeypatch):
        real = {}

        def both(graph: Graph, arch: str, **options: Any) -> Any:
            real["code"] = build_code(graph, arch)
            return fake_code(graph, arch, **options)

        monkeypatch.setattr(build, "build_code", both)
        monkeypatch.setattr(
            inspection, "inspect_code", lambda graph, code, *rest: inspect_code(graph, real["code"], *rest)
        )
        dump = tmp_path / "dump"
        with forerun.compile(graph, "cuda", dump=dump, weights=WEIGHTS) as executable:
            remarks = executable.summary.remarks
        with forerun.compile(graph, "cuda{prove=false}", weights=WEIGHTS) as executable:
            assert executable.summary.remarks == []
    assert any("S3" in remark and "sunk below" in remark for remark in remarks)
    assert any("R2" in remark and "double up" in remark for remark in remarks)
    assert "sunk below" in (dump / "summary.json").read_text()
    page = (dump / "index.html").read_text()
    assert 'id="machine-code"' in page
    assert "sunk below" in page


def foreign(tmp_path: Path, language: str, content: bytes) -> tuple[Graph, Any]:
    """A graph whose kernel is given, with a body that waits; and its code."""
    path = tmp_path / f"weigh{zlib.crc32(content)}.{language}"
    path.write_bytes(content)
    vouch(path)
    made = weigh_kernel(tmp_path, PLAIN, all_steps())
    given = Kernel(made.name, made.parameters, made.roles, (Implementation(language, str(path), "weigh"),))
    graph = hoisting_graph(given, pipeline="")
    return graph, build_code(graph, "sm_90")


HEAD = ".version 9.0\n.target sm_90\n.visible .entry weigh (.param .u64 a, .param .u64 b, .param .u64 c)\n{\n"


def test_ptx_gets_the_wait_that_its_kernel_declares(tmp_path: Path) -> None:
    for body in ("griddepcontrol.wait; ret; }", "ret; }"):
        graph, code = foreign(tmp_path, "ptx", (HEAD + body).encode())
        assert inspect_code(graph, code, "sm_90", 132).remarks == ()
        assert code.units[0].source.code.count(b"griddepcontrol.wait") == 1


@needs_toolchain
def test_machine_code_without_the_wait_that_it_declares_is_refused(tmp_path: Path) -> None:
    ptxas = require_compiler().ptxas.path
    for body, waits in (("griddepcontrol.wait; ret; }", True), ("ret; }", False)):
        image, _ = assemble(HEAD + body, Source("weigh", ""), "sm_90", ptxas, ())
        graph, code = foreign(tmp_path, "cubin", image)
        if waits:
            assert inspect_code(graph, code, "sm_90", 132).remarks == ()
        else:
            with pytest.raises(InternalError, match=r"S1.*\n?.*not every thread"):
                inspect_code(graph, code, "sm_90", 132)


@dataclass(frozen=True)
class ChooseHoist(Pass):
    """Offers the hoisted graph, or leaves it as it is."""

    name: ClassVar[str] = "test-choose-hoist"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The choice of the assessor."""
        from forerun.passes.infra.manager import PassManager

        return context.choose([PassManager("hoist-loads").run(graph).graph, graph], Location("graph", graph.name))


@needs_toolchain
def test_the_target_assesses_for_the_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for load, survives in ((PLAIN, True), (UNORDERED, False)):
        folder = tmp_path / str(survives)
        folder.mkdir()
        graph = hoisting_graph(weigh_kernel(folder, load), pipeline="infer-dependencies,insert-pdl")
        with on_fake(monkeypatch):
            made = forerun.compile(graph, "cuda{arch=sm_90}", Pipeline((ChooseHoist(),)), weights=WEIGHTS)
            (record,) = made.summary.passes
            made.close()
        assert record.changed == survives
        if not survives:
            (remark,) = record.remarks
            assert "candidate 2 of 2 chosen: kernel 'weigh.pdl': phase 'load' loads with .nc" in remark


@needs_toolchain
def test_assessment_of_what_does_not_compile_or_spills(tmp_path: Path) -> None:
    good = hoisting_graph(weigh_kernel(tmp_path, PLAIN))
    (tmp_path / "bad").mkdir()
    broken = hoisting_graph(weigh_kernel(tmp_path / "bad", "no such thing;"))
    assess = CudaTarget(arch="sm_90").assess
    assert assess([good, broken]) == (0, "nothing is wrong with it")
    number, reason = assess([broken, good])
    assert number == 1
    assert reason.startswith("it cannot be compiled")
    (tmp_path / "spills").mkdir()
    unroll = "#pragma unroll\n"
    values = f"float v[200];\n{unroll}for (int i = 0; i < 200; ++i) v[i] = load_global(a.w + i * 64);\n"
    values += f"{unroll}for (int i = 0; i < 200; ++i) l.weight += v[199 - i] * v[i];"
    spills = hoisting_graph(weigh_kernel(tmp_path / "spills", values), launch=Launch(block=(1024, 1, 1)))
    number, reason = assess([spills, good])
    assert number == 1
    assert "bytes of registers a thread" in reason


@pytest.mark.gpu
def test_lost_hoists_are_told_and_results_stay_right_on_a_gpu(tmp_path: Path) -> None:
    for load, lost in ((PLAIN, False), (UNORDERED, True)):
        folder = tmp_path / str(lost)
        folder.mkdir()
        graph = hoisting_graph(weigh_kernel(folder, load), pipeline="")
        with forerun.compile(graph, "cuda", weights=WEIGHTS) as executable:
            assert any("S3" in remark for remark in executable.summary.remarks) == lost
            y = executable.run({"x": np.arange(N, dtype=np.float32)})["y"]
        np.testing.assert_array_equal(y, np.arange(N, dtype=np.float32))
