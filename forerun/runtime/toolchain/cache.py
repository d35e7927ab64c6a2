"""A folder of results, each under the hash of what it was made from. Any number of processes may use it at once.

An entry is written under another name and then renamed, so that nobody sees half of one; it begins with its own
checksum, so that what a full disk or a crash left behind is noticed and made again. The oldest go when there are too
many. A folder that cannot be written costs time, but no result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "Cache", "cache_at", "cache_folder", "key_of"]

CACHE_VARIABLE = "FORERUN_CACHE_DIR"
"""The environment variable that moves the cache folder."""

_DIGEST_BYTES = hashlib.sha256().digest_size
_LARGEST = 512 * 2**20
_KEPT_SHARE = 0.8
_PUTS_BETWEEN_EVICTIONS = 64
_TOUCH_SECONDS = 3600.0
_STALE_SECONDS = 3600.0
_TEMPORARY = "writing-"
_SUFFIX = ".entry"


def cache_folder() -> Path:
    """Where compiled units are kept: in ``$FORERUN_CACHE_DIR``, else in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / "toolchain"
    import platformdirs

    return Path(platformdirs.user_cache_dir("forerun", appauthor=False)) / "toolchain"


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
        path = self._path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        _touch(path)
        return _unpacked(stored)

    def put(self, key: str, data: bytes) -> bool:
        """Keep something; whether that succeeded."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _packed(data))
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
            try:
                state = path.stat()
            except FileNotFoundError:  # another process evicts, too
                continue
            if path.name.startswith(_TEMPORARY):
                if now - state.st_mtime > _STALE_SECONDS:
                    path.unlink(missing_ok=True)
            else:
                yield state.st_mtime, state.st_size, path

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"


def _packed(data: bytes) -> bytes:
    body = zlib.compress(data, 1)
    return hashlib.sha256(body).digest() + body


def _unpacked(stored: bytes) -> bytes | None:
    digest, body = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    return zlib.decompress(body) if hashlib.sha256(body).digest() == digest else None


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _touch(path: Path) -> None:
    """Note that an entry was used; roughly, since writing at each use would cost more than it tells."""
    try:
        if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
            os.utime(path)
    except OSError:
        return  # evicted meanwhile, or not ours: then it is only older than it could be
