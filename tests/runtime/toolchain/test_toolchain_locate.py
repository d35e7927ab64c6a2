"""Finding tools: made-up ones in made-up places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forerun.runtime.toolchain import ToolchainMissing, locate, missing_toolchain
from forerun.runtime.toolchain.locate import Tool, Toolchain, require_compiler, require_disassembler


def tool(major: int, minor: int = 0) -> Tool:
    return Tool(Path("tool"), (major, minor), f"{major}.{minor}")


@pytest.fixture
def found(monkeypatch):
    """Makes a toolchain the one that is found."""

    def place(**tools):
        complete = {"nvrtc": tool(13), "ptxas": tool(13), "nvdisasm": tool(13, 2)}
        monkeypatch.setattr(locate, "find_toolchain", lambda: Toolchain(**{**complete, **tools}))

    return place


def test_nothing_is_missing(found):
    found()
    assert missing_toolchain() is None
    assert missing_toolchain(driver=(13, 0)) is None
    assert require_disassembler() == tool(13, 2)
    assert require_compiler().ptxas == tool(13)


def test_what_is_missing_is_told_with_what_to_do(found):
    found(nvrtc=None, nvrtc_failure="no library", ptxas=None, nvdisasm=None)
    assert missing_toolchain() == (
        "no NVRTC (no library); no ptxas; no nvdisasm; pip install 'forerun[cuda]' brings what fits"
    )
    with pytest.raises(ToolchainMissing, match="cannot compile CUDA C") as caught:
        require_compiler()
    assert caught.value.exit_status == 3


def test_instructions_can_be_missing_alone(found):
    found(nvdisasm=None)
    assert missing_toolchain(inspect=False) is None
    assert require_compiler()
    with pytest.raises(ToolchainMissing, match="no nvdisasm"):
        require_disassembler()


def test_tools_that_do_not_fit(found):
    found(ptxas=tool(12, 8))
    assert "ptxas 12.8 cannot read the PTX of NVRTC 13.0" in missing_toolchain()
    found(nvdisasm=tool(12, 4))
    assert "nvdisasm 12.4 cannot read the cubins of ptxas 13.0" in missing_toolchain()
    assert missing_toolchain(inspect=False) is None


def test_a_driver_that_is_too_old(found):
    found(ptxas=tool(13, 2))
    assert "the driver is of CUDA 12.8" in missing_toolchain(driver=(12, 8))
    assert missing_toolchain(driver=(13, 0)) is None  # the same major release loads its cubins


def make_tool(folder: Path, name: str, release: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="the made-up tools are shell scripts")
class TestSearch:
    """In folders, wheels and toolkits."""

    def test_the_first_that_is_new_enough(self, tmp_path):
        old, new, newer = (tmp_path / name for name in ("a", "b", "c"))
        for folder, release in ((old, "12.4"), (new, "13.0"), (newer, "13.5")):
            make_tool(folder, "ptxas", release)
        folders = [str(folder) for folder in (old, new, newer)]
        assert locate._find_tool("ptxas", folders, (13, 0)).path == new / "ptxas"
        assert locate._find_tool("ptxas", folders, (12, 0)).version == (12, 4)
        assert locate._find_tool("ptxas", folders, (14, 0)).path == old / "ptxas"
        assert locate._find_tool("nvdisasm", folders, (12, 0)) is None

    def test_a_tool_that_does_not_run_is_passed_over(self, tmp_path):
        broken = make_tool(tmp_path / "a", "ptxas", "13.0")
        broken.write_text("#!/bin/sh\nexit 3\n")
        make_tool(tmp_path / "b", "ptxas", "13.0")
        folders = [str(tmp_path / "a"), str(tmp_path / "b")]
        assert locate._find_tool("ptxas", folders, (13, 0)).path == tmp_path / "b" / "ptxas"

    @pytest.mark.parametrize("layout", ["nvidia/cu13/bin", "nvidia/cuda_nvcc/bin"])
    def test_layouts_of_wheels(self, tmp_path, monkeypatch, layout):
        path = make_tool(tmp_path / layout, "ptxas", "13.0")
        for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert [root / "bin" / "ptxas" for root in locate._wheel_roots()] == [path]

    def test_a_toolkit(self, tmp_path):
        make_tool(tmp_path / "kit" / "bin", "nvcc", "13.0")
        roots = locate._toolkit_roots(str(tmp_path / "kit" / "bin"), ("", "/chosen"))
        assert roots == [Path("/chosen"), tmp_path / "kit", Path("/usr/local/cuda")]

    def test_folders_of_headers(self, tmp_path):
        include = tmp_path / "b" / "include"
        include.mkdir(parents=True)
        (include / "cuda_fp16.h").write_text("")
        assert locate._include([tmp_path / "a", tmp_path / "b"]) == (include,)
        (include / "cccl").mkdir()
        assert locate._include([tmp_path / "b"]) == (include, include / "cccl")
        assert locate._include([tmp_path]) == ()


def test_no_bindings(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert locate._find_nvrtc()[1].startswith("cuda-bindings is not installed")


def test_no_library(monkeypatch):
    pathfinder = pytest.importorskip("cuda.pathfinder")

    def fail(name):
        raise RuntimeError(f"cannot find {name}: here, there")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", fail)
    assert locate._find_nvrtc() == (None, "cannot find nvrtc")


def test_nothing_is_loaded_until_it_is_needed():
    code = "import sys; import forerun.runtime.toolchain; assert not [m for m in sys.modules if m.startswith('cuda')]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the made-up tools are shell scripts")
@pytest.mark.parametrize("path", ["", ".", ":", "bin", "./bin", "bin:.:"])
def test_nothing_of_the_current_folder_runs(tmp_path, monkeypatch, path):
    """Neither through an empty or relative entry of PATH, nor CUDA_HOME, nor a folder ``nvidia`` there."""
    mark = tmp_path / "mark"
    here = tmp_path / "here"
    for folder in (here, here / "bin", here / "nvidia" / "cu13" / "bin"):
        for name in ("ptxas", "nvdisasm", "nvcc"):
            tool = make_tool(folder, name, "99.9")
            tool.write_text(f"{tool.read_text()}touch {mark}\n")
    monkeypatch.chdir(here)
    for entry in ("", str(here)):
        monkeypatch.setattr(sys, "path", [entry, *sys.path])
    for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    found = locate._find(path, "", ".")
    assert not mark.exists()
    for tool in (found.ptxas, found.nvdisasm):
        assert tool is None or tool.version != (99, 9)
