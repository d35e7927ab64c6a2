"""What machine code does is kept: by the code, the kernel, the question, and the version of the analysis."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from forerun.runtime.toolchain import image_accesses
from forerun.runtime.toolchain.image_accesses import ImageAccesses, accesses_of_image
from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.ptxas import assemble
from forerun.runtime.toolchain.sass_reach import Reach
from forerun.runtime.toolchain.unit import Source

PTX = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 k_param_0, .param .u64 k_param_1) {
.reg .b32 %%r<2>;
.reg .b64 %%d<3>;
ld.param.u64 %%d1, [k_param_0];
ld.param.u64 %%d2, [k_param_1];
%s
ld.global.u32 %%r1, [%%d1];
st.global.u32 [%%d2], %%r1;
griddepcontrol.launch_dependents;
ret;
}
"""
WAITS, POINTERS = "griddepcontrol.wait;", frozenset({0, 8})


def code_with(instruction: str) -> bytes:
    code, _ = assemble(PTX % instruction, Source("k", ""), "sm_90", require_compiler().ptxas.path, ())
    return code


def never(*_: object) -> None:
    raise AssertionError("the code was looked at again")


@pytest.mark.toolchain
@pytest.mark.usefixtures("toolchain")
def test_answers_are_kept_by_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    waiting, bare = code_with(WAITS), code_with("")
    asked = [
        (waiting, "waiting", "k", POINTERS, frozenset[int]()),
        (waiting, "waiting", "k", frozenset({8}), frozenset({0})),
        (waiting, "waiting", "k", None, frozenset[int]()),
        (bare, "bare", "k", POINTERS, frozenset[int]()),
    ]
    found = [accesses_of_image(*one) for one in asked]
    exact = Reach(frozenset({0}), frozenset({8}))
    assert found[0] == ImageAccesses(triggers=True, waits_first=True, may_poll=False, reach=exact)
    # Through a null pointer nothing is accessed.
    assert found[1] is not None
    assert found[1].reach == Reach(frozenset(), frozenset({8}))
    assert found[2] is not None
    assert "does not point to memory of the device" in found[2].reach.unknown
    assert found[3] == ImageAccesses(triggers=True, waits_first=False, may_poll=False, reach=exact)
    assert accesses_of_image(bare, "bare", "other", POINTERS, frozenset()) is None

    with monkeypatch.context() as patch:
        patch.setattr(image_accesses, "_facts", never)
        assert [accesses_of_image(*one) for one in asked] == found
    monkeypatch.setattr(image_accesses, "_analysis", lambda: "another version")
    monkeypatch.setattr(image_accesses, "_facts", never)
    with pytest.raises(AssertionError, match="looked at again"):
        accesses_of_image(*asked[0])


def imported(path: Path) -> set[str]:
    """The modules of forerun that a module imports, as paths in the package."""
    package = Path(image_accesses.__file__).parents[2]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("forerun."):
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            paths = (f"{name.removeprefix('forerun.').replace('.', '/')}.py" for name in names)
            found |= {one for one in paths if (package / one).is_file()}
    return found


def test_all_of_the_analysis_counts() -> None:
    """What the modules of the analysis import is in the list of what a result depends on."""
    listed = set(image_accesses._SOURCES)
    kept_apart = {
        "cache.py",
        "cache_folder.py",
        "diagnostics.py",
        "errors.py",
        "locate.py",
    }  # where things are, not what they mean
    package = Path(image_accesses.__file__).parents[2]
    needed = {one for name in listed for one in imported(package / name) if Path(one).name not in kept_apart}
    assert "runtime/toolchain/sass_cfg.py" in needed
    assert needed <= listed
