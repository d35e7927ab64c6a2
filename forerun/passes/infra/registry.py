"""Passes by name: forerun's own, those of installed packages, and any class that can be imported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from forerun.ir.trust import trusted
from forerun.passes.infra.base import Pass, require_name
from forerun.support.diagnostics import InternalError, InvalidInput, did_you_mean
from forerun.support.options import specs

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "ENTRY_POINT_GROUP",
    "available",
    "builtin",
    "get",
    "import_path",
    "is_vouched",
    "load_argument",
    "loadable",
    "register",
    "spelling",
]

ENTRY_POINT_GROUP = "forerun.passes"
"""Packages declare their passes in this entry-point group: the pass's name, and ``module:Class``."""

_Registered = TypeVar("_Registered", bound=type[Pass])
_passes: dict[str, type[Pass]] = {}


def register(cls: _Registered) -> _Registered:
    """Class decorator (outside ``@dataclass``) that makes a pass known by its name.

    Defining a class of the same module and name again, as notebooks do, replaces it.

    Raises:
        InvalidInput: If another class has the name.
        InternalError: If it lacks a name or a summary, or declares an option of an unknown type.
    """
    name = require_name(cls)
    if not cls.summary() or "__doc__" not in vars(cls):
        raise InternalError(f"pass '{name}' has no docstring", hint="its first line is the pass's summary")
    specs(cls)
    present = _passes.get(name)
    if present is not None and import_path(present) != import_path(cls):
        raise InvalidInput(f"two passes are named '{name}': {import_path(present)} and {import_path(cls)}")
    _passes[name] = cls
    return cls


def get(name: str) -> type[Pass]:
    """The pass of a name, or of ``module:Class``.

    Raises:
        InvalidInput: If there is none, or it cannot be imported.
    """
    if ":" in name:
        return _known(name) or _imported(name)
    found = _passes.get(name)
    if found is None:
        _load_builtins()
        found = _passes.get(name) or _from_entry_point(name)
    if found is None:
        raise InvalidInput(f"no pass '{name}'", hint=did_you_mean(name, sorted({*_passes, *_entry_points()})))
    return found


def available() -> Mapping[str, type[Pass]]:
    """Every pass that has a name, sorted by name.

    Raises:
        InvalidInput: If a pass that an installed package declares cannot be imported.
    """
    _load_builtins()
    for name in _entry_points():
        get(name)
    return MappingProxyType(dict(sorted(_passes.items())))


def builtin() -> Mapping[str, type[Pass]]:
    """Forerun's own passes, one a module of ``forerun.passes``, sorted by name."""
    return {name: cls for name, cls in available().items() if cls.__module__.startswith("forerun.passes.")}


def is_vouched(path: str) -> bool:
    """Whether ``module:Class`` is known without an import of what nobody vouched for."""
    module = path.partition(":")[0]
    return module in trusted().modules or _known(path) is not None


def spelling(cls: type[Pass], *, portable: bool = False) -> str:
    """How pipeline text names a pass, registered or not.

    If it is portable, another process understands it once it has loaded :func:`load_argument`.
    """
    known = _passes.get(cls.name) is cls
    if known and (_is_installed(cls) or not portable):
        return cls.name
    return f"{_module_stem(cls)}:{cls.__qualname__}" if portable else import_path(cls)


def _known(path: str) -> type[Pass] | None:
    return next((cls for cls in _passes.values() if import_path(cls) == path), None)


def load_argument(cls: type[Pass]) -> str | None:
    """What ``forerun opt --load`` needs to make a pass known: a module or a file, or ``None`` if it is installed."""
    return None if _is_installed(cls) else loadable(cls.__module__)


def loadable(module: str) -> str:
    """What ``--load`` needs to import a module that is imported here: the path of a lone file or a script, or its name.

    A module of a package needs its package; a lone file is found by its path from any folder.
    """
    file = _file_of(module)
    is_alone = "." not in module and file is not None and file.name != "__init__.py"
    return str(file) if is_alone else module


def import_path(cls: type) -> str:
    """``module:Class``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_installed(cls: type[Pass]) -> bool:
    return cls.__module__.startswith("forerun.passes.") or cls.name in _entry_points()


def _module_stem(cls: type[Pass]) -> str:
    file = _file_of(cls.__module__)
    return file.stem if cls.__module__ == "__main__" and file is not None else cls.__module__


def _file_of(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).absolute() if file else None


@cache
def _load_builtins() -> None:
    package = importlib.import_module("forerun.passes")
    for module in pkgutil.iter_modules(package.__path__, "forerun.passes."):
        if not module.ispkg:
            importlib.import_module(module.name)


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _from_entry_point(name: str) -> type[Pass] | None:
    point = _entry_points().get(name)
    if point is None:
        return None
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        raise InvalidInput(f"pass '{name}' ({point.value}) cannot be imported: {_words(error)}") from error
    cls = _checked(found, point.value)
    if require_name(cls) != name:
        raise InvalidInput(f"entry point '{name}' ({point.value}) is a pass named '{cls.name}'")
    return register(cls)


def _imported(path: str) -> type[Pass]:
    module_name, _, qualified = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module_name
        hint = f"forerun opt --load {module_name} finds modules of the current folder" if is_missing else ""
        raise InvalidInput(f"module '{module_name}' cannot be imported: {_words(error)}", hint=hint) from error
    for part in qualified.split("."):
        inside = found
        found = getattr(inside, part, None)
        if found is None:
            names = [name for name, v in vars(inside).items() if isinstance(v, type) and issubclass(v, Pass)]
            raise InvalidInput(f"'{module_name}' has no pass '{qualified}'", hint=did_you_mean(part, names))
    return _checked(found, path)


def _checked(found: Any, path: str) -> type[Pass]:
    if not (isinstance(found, type) and issubclass(found, Pass)):
        raise InvalidInput(f"'{path}' is not a pass", hint="a pass is a subclass of forerun.passes.Pass")
    if inspect.isabstract(found):
        raise InvalidInput(f"'{path}' is an abstract pass", hint="name one of its subclasses")
    return found


def _words(error: Exception | SystemExit) -> str:
    return f"{type(error).__name__}: {error}"
