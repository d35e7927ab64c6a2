"""Files: read only if they are regular ones, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

from forerun.support.diagnostics import InvalidInput

__all__ = ["open_regular", "read_regular", "require_writable_folder", "write_whole"]

_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: str | Path, *, follow: bool = True) -> int:
    """A descriptor of a regular file, for reading.

    Pipes, devices and sockets are not opened: to open one may wait for ever, or have effects.

    Args:
        path: The file.
        follow: Whether a symbolic link may lead to it. Links in a folder that somebody else wrote may lead anywhere.

    Raises:
        InvalidInput: If it cannot be opened, or is not a regular file.
    """
    try:
        kind = (os.stat if follow else os.lstat)(path).st_mode
        _require_regular(path, kind)
        # The file may be another one by now, so what was opened is looked at again.
        descriptor = os.open(path, _READ | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    except (OSError, ValueError) as error:  # a name with a zero character is a ValueError
        raise InvalidInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except InvalidInput:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(path: str | Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    what = kinds.get(stat.S_IFMT(mode), "something else")
    raise InvalidInput(f"{path} cannot be read: it is {what}, not a file")


def read_regular(path: str | Path, *, most: int, follow: bool = True) -> bytes:
    """What a regular file of at most ``most`` bytes holds; ``follow`` as for :func:`open_regular`.

    Raises:
        InvalidInput: If it cannot be read, is not a regular file, or is larger.
    """
    with os.fdopen(open_regular(path, follow=follow), "rb") as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > most:
        raise InvalidInput(f"{path} cannot be read: it has more than {most:,} bytes")
    return data


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it, so that nobody ever sees half of it.

    The temporary name cannot be predicted, and nothing that exists is opened: others may write to the same folder.

    Raises:
        InvalidInput: If it cannot be written.
    """
    data = text.encode("utf-8", errors="backslashreplace")
    try:
        temporary = path.with_name(f".forerun-{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, _NEW, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from error


def require_writable_folder(folder: Path) -> None:
    """Make a folder if it does not exist, and make sure that files can be written there.

    Raises:
        InvalidInput: If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except (OSError, ValueError) as error:
        hint = "name a folder that you can write to"
        is_file = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = "it is a file, or lies in one" if is_file else getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot write to folder '{folder}': {reason}", hint=hint) from error
