"""Loading users' modules, for the passes that they register."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["load_modules"]


def load_modules(names: Iterable[str]) -> None:
    """Import modules by name (the current folder counts) or by the path of a ``.py`` file.

    Raises:
        InvalidInput: If one cannot be imported.
    """
    from forerun.ir.diagnostics import ForerunError, InvalidInput

    for name in names:
        try:
            if name.endswith(".py"):
                _load_file(Path(name))
            else:
                _load_module(name)
        except ForerunError:
            raise
        except Exception as error:  # whatever a foreign module raises
            raise InvalidInput(f"--load {name}: {type(error).__name__}: {error}") from error


def _load_module(name: str) -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.import_module(name)


def _load_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
