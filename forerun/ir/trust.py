"""Whose code runs: a text never chooses it.

Graphs name functions and sources by text. What a name stands for is looked up only if it is vouched for: it is one of
forerun's own, of a module that the user named (``--load``, ``trust=``), or a function that the program registered.
That a module is imported already says nothing: ``os`` is, too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypeVar, cast

from forerun.support.diagnostics import InvalidInput

__all__ = [
    "MAIN",
    "OWN_FUNCTION_MODULES",
    "OWN_SOURCE_PACKAGES",
    "SOURCE_SUFFIXES",
    "Trust",
    "Trusted",
    "function_path",
    "is_module_name",
    "is_own_function_module",
    "main_name",
    "module_of",
    "name_of",
    "register_function",
    "register_source",
    "registered_function",
    "registered_source",
    "trusted",
    "trusting",
    "vouch",
    "vouch_in_scope",
]

Trusted: TypeAlias = str | Path | ModuleType
"""A module by its name, a module itself, or the path of a kernel's source."""

OWN_FUNCTION_MODULES = (
    "forerun.kernels",
    "forerun.kernels.batched",
    "forerun.kernels.persistent",
    "forerun.kernels.ragged",
    "forerun.runtime.litmus.phases",
    "forerun.testing.hashing",
)
"""The modules of forerun, and the packages of such modules, whose public functions a graph may name."""

OWN_SOURCE_PACKAGES = ("forerun.kernels.cuda", "forerun.runtime.litmus")
"""The packages of forerun whose sources a graph may name."""

SOURCE_SUFFIXES = (".cu", ".cuh", ".ptx", ".cubin", ".fatbin")
"""What the name of a kernel's source ends in."""

MAIN = "__main__"
"""What Python calls the program that runs, whatever its file is called."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Trust:
    """What somebody vouches for.

    Attributes:
        modules: Names of modules, each for itself: a package does not stand for the modules in it.
        files: Sources of kernels, as absolute paths without links.
    """

    modules: frozenset[str] = frozenset()
    files: frozenset[Path] = frozenset()

    @classmethod
    def of(cls, *items: Trusted | Collection[Trusted]) -> Trust:
        """What some items, or collections of items, stand for.

        Raises:
            InvalidInput: If one is neither a module nor a source.
        """
        modules, files = set(), set()
        for item in _flat(items):
            if isinstance(item, ModuleType):
                modules.add(item.__name__)
            elif isinstance(item, Path) or (isinstance(item, str) and item.endswith(SOURCE_SUFFIXES)):
                files.add(_source_path(item))
            elif isinstance(item, str) and is_module_name(item) and not item.endswith(".py"):
                modules.add(item)
            else:
                hint = f"name modules, or sources that end in {', '.join(SOURCE_SUFFIXES)}"
                raise InvalidInput(f"{item!r} is neither a module nor the source of a kernel", hint=hint)
        return cls(frozenset(modules), frozenset(files))

    def __or__(self, other: Trust) -> Trust:
        return Trust(self.modules | other.modules, self.files | other.files)


_NOTHING = Trust()
_process = _NOTHING
_scope: ContextVar[Trust] = ContextVar("forerun_trust", default=_NOTHING)
_registered: dict[str, Callable[..., Any]] = {}
_sources: dict[str, str] = {}


def trusted() -> Trust:
    """What is vouched for here: for the whole process, and in the scopes that are open."""
    return _process | _scope.get()


def vouch(*items: Trusted | Collection[Trusted]) -> None:
    """Vouch for modules and sources, for the rest of the process; raises what :meth:`Trust.of` raises."""
    global _process
    _process |= Trust.of(*items)


@contextmanager
def trusting(*items: Trusted | Collection[Trusted]) -> Iterator[None]:
    """Vouch for modules and sources within a block, on this thread; raises what :meth:`Trust.of` raises.

    Example:
        >>> with trusting("my_package.kernels"):
        ...     "my_package.kernels" in trusted().modules
        True
    """
    token = _scope.set(_scope.get() | Trust.of(*items))
    try:
        yield
    finally:
        _scope.reset(token)


def vouch_in_scope(*items: Trusted | Collection[Trusted]) -> None:
    """Vouch, as :func:`vouch`, until the innermost :func:`trusting` block ends."""
    _scope.set(_scope.get() | Trust.of(*items))


def register_function(function: _Function) -> _Function:
    """Decorator that lets graphs name a function of a module: ``module:function`` then is this very object.

    Defining the function again, as notebooks do, replaces it.

    Raises:
        InvalidInput: If it is not a function at the top of a module, so that no name leads to it.

    Example:
        >>> @register_function
        ... def halve(x):
        ...     return x // 2
        >>> registered_function(f"{halve.__module__}:halve")(4)
        2
    """
    _registered[name_of(function)] = function
    return function


def name_of(function: Callable[..., Any]) -> str:
    """``module:function``, as graphs name it; a function of the running script by the name that imports it.

    Raises:
        InvalidInput: If it is not a function at the top of a module, so that no name leads to it.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not callable(function) or isinstance(function, type) or not module or not name.isidentifier():
        what = f"{module}:{name}" if name else repr(function)
        hint = "define it at the top of a module; lambdas, methods and inner functions have no such name"
        raise InvalidInput(f"{what} is not a function that graphs can name", hint=hint)
    return function_path(function)


def function_path(function: Callable[..., Any]) -> str:
    """``module:function`` for any function, also for one that no name leads to."""
    module = function.__module__
    return f"{main_name() if module in _MAINS else module}:{function.__qualname__}"


def registered_function(path: str) -> Callable[..., Any] | None:
    """The function that the program registered under ``module:function``, if it did."""
    module, _, name = path.partition(":")
    return _registered.get(f"{main_name()}:{name}" if module == MAIN else path)


def register_source(location: str, text: str = "") -> None:
    """Let graphs name a source of the program's own, ``module:file.cu``.

    Without a text it is a file of that package, or beside that module.
    """
    _sources[location] = text


def registered_source(location: str) -> str | None:
    """What a source holds that the program registered (empty for a file); ``None`` for others."""
    return _sources.get(location)


def main_name() -> str:
    """The name that imports the running script: of ``python -m``, or the stem of its file; else ``__main__``.

    So what a script saves names its functions as the programs do that import it, or ``--load`` it.
    """
    main = sys.modules.get(MAIN)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    name = spec.name if spec is not None else Path(file).stem if file else MAIN
    return name if is_module_name(name) else MAIN


def module_of(name: str) -> ModuleType:
    """The module of a name, which is imported if need be; the running script is not imported a second time.

    Raises:
        ImportError: If there is none. Foreign modules may raise anything.
    """
    is_main = name == main_name() and name not in sys.modules
    return sys.modules[MAIN] if is_main else importlib.import_module(name)


_MAINS = (MAIN, "__mp_main__")
"""The names of the running script in its own process, and in those that multiprocessing starts."""


def is_own_function_module(name: str) -> bool:
    """Whether it is a module of forerun whose public functions a graph may name; only names are compared."""
    package, _, last = name.rpartition(".")
    return is_module_name(name) and (name in OWN_FUNCTION_MODULES or (package in OWN_FUNCTION_MODULES and last != ""))


def is_module_name(text: str) -> bool:
    """Whether a text can be the absolute name of a module."""
    return all(part.isidentifier() for part in text.split("."))


def _flat(items: Iterable[Trusted | Collection[Trusted]]) -> Iterator[Trusted]:
    for item in items:
        if isinstance(item, (list, tuple, set, frozenset)):
            yield from item
        else:
            yield cast("Trusted", item)  # whatever else it is, it will be looked at


def _source_path(item: str | Path) -> Path:
    path = Path(item)
    if path.suffix not in SOURCE_SUFFIXES:
        hint = f"such names end in {', '.join(SOURCE_SUFFIXES)}; modules are named without .py"
        raise InvalidInput(f"'{path}' is not the source of a kernel", hint=hint)
    return path.resolve()
