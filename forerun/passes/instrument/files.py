"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from forerun.ir.diagnostics import InvalidInput

__all__ = ["require_writable_folder", "write_whole"]


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it, so that nobody ever sees half of it.

    Raises:
        InvalidInput: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot write '{path}': {error.strerror or error}") from error


def require_writable_folder(folder: Path) -> None:
    """Make a folder if it does not exist, and make sure that files can be written there.

    Raises:
        InvalidInput: If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        hint = "name a folder that you can write to"
        raise InvalidInput(f"cannot write to folder '{folder}': {error.strerror or error}", hint=hint) from error
