"""Loading users' modules: their passes are known then, and graphs may name their functions and sources."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["load_modules"]


def load_modules(names: Iterable[str]) -> None:
    """Import modules by name (the current folder counts) or by the path of a ``.py`` file, and vouch for them.

    The path of a kernel's source is vouched for, and not imported.

    Raises:
        InvalidInput: If one cannot be imported.
    """
    from forerun.ir.trust import SOURCE_SUFFIXES, vouch_in_scope
    from forerun.support.diagnostics import ForerunError, InvalidInput

    for name in names:
        if name.endswith(SOURCE_SUFFIXES):
            if not Path(name).is_file():
                raise InvalidInput(f"--load {name}: no such file")
            vouch_in_scope(Path(name))
            continue
        try:
            vouch_in_scope(_load_file(Path(name)) if name.endswith(".py") else _load_module(name))
        except ForerunError:
            raise
        except (Exception, SystemExit) as error:  # whatever a foreign module raises
            raise InvalidInput(f"--load {name}: {type(error).__name__}: {error}") from error


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        # Last: what is imported later, by us or by others, must not be found here instead of where it is installed.
        sys.path.append(here)
    top = name.partition(".")[0]
    found = PathFinder.find_spec(top, [here]) if top not in sys.modules else None
    if found is not None and found.loader is not None:
        module = sys.modules[top] = importlib.util.module_from_spec(found)
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[top]
            raise
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
