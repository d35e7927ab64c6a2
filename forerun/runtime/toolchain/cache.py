"""A folder of results, each under the hash of what it was made from. Any number of processes may use it at once.

An entry is written under another name and then renamed, so that nobody sees half of one; it begins with a checksum of
its key and its bytes, so that what a full disk or a crash left behind is noticed and made again, and so is an entry
under another's name. Only plain files that are this user's (or root's), and that nobody else can write, are read: who
can write into the folder cannot choose what is loaded. The oldest go when there are too many. A folder that cannot be
written costs time, but no result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Cache", "cache_at", "key_of"]

_DIGEST_BYTES = hashlib.sha256().digest_size
_LARGEST = 512 * 2**20
_LARGEST_ENTRY = 256 * 2**20
_KEPT_SHARE = 0.8
_PUTS_BETWEEN_EVICTIONS = 64
_TOUCH_SECONDS = 3600.0
_STALE_SECONDS = 3600.0
_TEMPORARY = "writing-"
_SUFFIX = ".entry"


@functools.lru_cache(maxsize=8)
def cache_at(folder: Path) -> Cache:
    """The cache in a folder; the same one at each call."""
    return Cache(folder)


def key_of(*parts: str | bytes) -> str:
    """A key for what a result is made from. Parts are told apart: ``("ab", "c")`` and ``("a", "bc")`` differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


class Cache:
    """Bytes under keys, on disk.

    Args:
        folder: Where; it is made when something is written.
        largest: How many bytes it may hold.
    """

    def __init__(self, folder: Path, *, largest: int = _LARGEST) -> None:
        self.folder = folder
        self.largest = largest
        self._puts = 0

    def get(self, key: str) -> bytes | None:
        """What was put there; ``None`` if nothing was, or if it was damaged since: then it is to be put again."""
        try:
            stored = _read_own(self._path(key))
        except OSError:
            return None
        return None if stored is None else _unpacked(key, stored)

    def put(self, key: str, data: bytes) -> bool:
        """Keep something; whether that succeeded."""
        path = self._path(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if path.parent.is_symlink():
                return False
            _write(path, _packed(key, data))
            if self._puts % _PUTS_BETWEEN_EVICTIONS == 0:
                self.evict()
        except OSError:
            return False
        self._puts += 1
        return True

    def evict(self) -> None:
        """If there is too much, remove what nobody has used for the longest time; and what was never finished."""
        entries = sorted(self._entries())
        size = sum(entry_size for _, entry_size, _ in entries)
        if size <= self.largest:
            return
        for _, entry_size, path in entries:
            if size <= self.largest * _KEPT_SHARE:
                break
            path.unlink(missing_ok=True)
            size -= entry_size

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each entry was last used, its bytes, and its file."""
        now = time.time()
        for path in self.folder.glob("*/*"):
            is_ours = path.name.startswith(_TEMPORARY) or path.name.endswith(_SUFFIX)
            if not is_ours or path.parent.is_symlink():
                continue
            try:
                state = path.lstat()
            except FileNotFoundError:  # another process evicts, too
                continue
            if not stat.S_ISREG(state.st_mode):
                continue
            if path.name.startswith(_TEMPORARY):
                if now - state.st_mtime > _STALE_SECONDS:
                    path.unlink(missing_ok=True)
            else:
                yield state.st_mtime, state.st_size, path

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"


def _packed(key: str, data: bytes) -> bytes:
    body = zlib.compress(data, 1)
    return _checksum(key, body) + body


def _unpacked(key: str, stored: bytes) -> bytes | None:
    digest, body = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if _checksum(key, body) != digest:
        return None
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, _LARGEST_ENTRY)
    except zlib.error:
        return None
    return data if inflater.eof and not inflater.unused_data else None


def _checksum(key: str, body: bytes) -> bytes:
    return hashlib.sha256(b"%d:%s" % (len(key), key.encode()) + body).digest()


def _read_own(path: Path) -> bytes | None:
    """What a file holds, if it is a plain one of this user's that nobody else can write; else ``None``."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or not _is_own(state):
            return None
        stored = file.read()
    _touch(path, state.st_mtime)
    return stored


def _is_own(state: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # no such owners and modes on this system
        return True
    # A second name may be what somebody gave to a file that this user downloaded.
    is_shared = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or state.st_nlink > 1
    return state.st_uid in (os.geteuid(), 0) and not is_shared


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _touch(path: Path, last: float) -> None:
    """Note that an entry was used; roughly, since writing at each use would cost more than it tells."""
    try:
        if time.time() - last > _TOUCH_SECONDS:
            os.utime(path)
    except OSError:
        return  # evicted meanwhile, or not ours: then it is only older than it could be
