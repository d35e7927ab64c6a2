"""Reads what a kernel's ``Implementation.source`` names, and what that includes.

Sources come from forerun, from modules that somebody vouches for, or are files that the user named; see
:mod:`forerun.ir.trust`. What they include lies beside them, or is forerun's; other names are left to the compiler,
which knows CUDA's own headers only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath

from forerun.ir.demands import Demand, is_source_vouched, refusal, split_source
from forerun.ir.trust import module_of, registered_source
from forerun.runtime.toolchain.includes import included_names

__all__ = ["LIBRARY", "file_name", "included", "read_source", "require_source"]

LIBRARY = "forerun.runtime.cuda.codegen.include"
"""The package of the headers that every kernel may include."""


def require_source(language: str, location: str) -> None:
    """Refuse a source that nobody vouches for, before anything is imported or opened.

    Raises:
        InvalidInput: If nobody does.
    """
    if not is_source_vouched(location):
        raise refusal("a kernel", [Demand(language, location, "an implementation")])


@cache
def read_source(location: str) -> bytes:
    """The contents of ``package:resource`` or of a file; the caller has asked :func:`require_source`.

    Raises:
        OSError: If it cannot be read.
        ImportError: If there is no such package.
    """
    package, resource = split_source(location)
    if not package:
        return Path(location).read_bytes()
    text = registered_source(location)
    if text:
        return text.encode()
    module = module_of(package)
    if hasattr(module, "__path__"):
        return resources.files(module).joinpath(resource).read_bytes()
    return _within(Path(str(module.__file__)).parent, resource).read_bytes()


@cache
def included(location: str) -> tuple[tuple[str, str], ...]:
    """The file and all that it includes by ``"name"``, by the name under which it is included.

    Names are looked for beside the file, then among the headers of :data:`LIBRARY`; others are left to the compiler.

    Raises:
        OSError: If the file cannot be read.
        ImportError: If there is no such package.
        UnicodeDecodeError: If a file is not text.
    """
    name, beside = _neighbourhood(location)
    found = {name: read_source(location).decode()}
    pending = list(included_names(found[name]))
    while pending:
        name = pending.pop()
        if name not in found and (text := _find(name, beside)) is not None:
            found[name] = text
            pending += included_names(text)
    return tuple(sorted(found.items()))


def file_name(location: str) -> str:
    """The name under which a file is included."""
    return _neighbourhood(location)[0]


def _neighbourhood(location: str) -> tuple[str, Callable[[str], str]]:
    """The file's name, and the location of a file of another name beside it."""
    package, resource = split_source(location)
    if package:
        return resource, lambda name: f"{package}:{name}"
    path = Path(location)
    return path.name, lambda name: str(_within(path.parent, name))


def _within(folder: Path, name: str) -> Path:
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise FileNotFoundError(name)  # a link that leads elsewhere
    return path


def _find(name: str, beside: Callable[[str], str]) -> str | None:
    if PurePosixPath(name).name != name or "\\" in name or ":" in name:
        return None  # not beside it: CUDA's own, or something that the compiler will refuse
    for locate in (beside, lambda name: f"{LIBRARY}:{name}"):
        try:
            return read_source(locate(name)).decode()
        except (FileNotFoundError, IsADirectoryError):
            continue
    return None
