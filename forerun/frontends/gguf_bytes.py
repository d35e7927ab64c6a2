"""The bytes of a model file, read where they are needed.

The file is not mapped: a mapped file that becomes shorter ends the process with SIGBUS, where a read tells it.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from forerun.support.diagnostics import InvalidInput, did_you_mean
from forerun.support.files import open_regular

__all__ = ["FileBytes"]

_WINDOW = 1 << 20
_HINT = "name a model file in GGUF"


class FileBytes:
    """An open file. It is closed when the object goes.

    Raises:
        InvalidInput: If it cannot be opened.

    Attributes:
        size: Bytes, when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = open_regular(path)
        except InvalidInput as error:
            hint = _neighbours(path) if isinstance(error.__cause__, FileNotFoundError) else _HINT
            message = f"{path}: no such file" if isinstance(error.__cause__, FileNotFoundError) else error.message
            raise InvalidInput(message, hint=hint) from error
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size
        if self.size < 4:
            raise InvalidInput(f"{path}: not a GGUF file (it is too short)", hint=_HINT)
        self._window_start, self._window = 0, b""

    def read(self, start: int, size: int) -> bytearray:
        """The bytes from ``start``, which lie within :attr:`size`.

        Raises:
            InvalidInput: If the file has become shorter meanwhile, or cannot be read.
        """
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            try:
                count = os.preadv(self._descriptor, [view[done:]], start + done)
            except OSError as error:
                raise InvalidInput(f"{self.path} cannot be read: {error.strerror or error}", hint=_HINT) from error
            if not count:
                message = f"{self.path}: the file became shorter while it was read: it ended at byte {start + done}"
                raise InvalidInput(message, hint=f"it had {self.size:,} bytes; leave it alone while it is in use")
            done += count
        return data

    def part(self, start: int, size: int) -> bytes:
        """The bytes from ``start`` on, for many small pieces in order: they come from a window that is read at once."""
        offset = start - self._window_start
        if offset < 0 or offset + size > len(self._window):
            self._window_start = start
            self._window = bytes(self.read(start, max(size, min(_WINDOW, self.size - start))))
            offset = 0
        return self._window[offset : offset + size]

    def forget(self) -> None:
        """Give the window's memory back."""
        self._window_start, self._window = 0, b""


def _neighbours(path: Path) -> str:
    names = sorted(p.name for p in path.parent.glob("*.gguf")) if path.parent.is_dir() else []
    return did_you_mean(path.name, names) if names else _HINT
