"""The cache: what it keeps, loses and notices, with many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from forerun.runtime.toolchain.cache import Cache, cache_at, cache_folder, key_of


def test_bytes_come_back(cache):
    data = bytes(range(256)) * 100
    assert cache.get("ab12") is None
    assert cache.put("ab12", data)
    assert cache.get("ab12") == data
    assert cache.put("ab12", b"")
    assert cache.get("ab12") == b""


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:40] + b"!" + d[41:], lambda d: d + b"!"]
)
def test_damage_is_noticed(cache, damage):
    cache.put("ab12", os.urandom(1000))
    (path,) = cache.folder.glob("*/*")
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("ab12") is None
    cache.put("ab12", b"new")
    assert cache.get("ab12") == b"new"


def test_keys_tell_parts_apart():
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("ab") != key_of("ab", "")
    assert key_of("ab") == key_of(b"ab")


def test_the_oldest_go_first(tmp_path):
    cache = Cache(tmp_path, largest=5000)
    for number in range(8):
        cache.put(f"{number}0", os.urandom(1000))
        os.utime(cache._path(f"{number}0"), (0, time.time() - 100 + number))
    cache.evict()
    assert [number for number in range(8) if cache.get(f"{number}0") is not None] == [5, 6, 7]
    cache.evict()
    assert cache.get("50") is not None


def test_what_is_used_counts_as_new(cache):
    cache.put("ab", b"data")
    path = cache._path("ab")
    os.utime(path, (0, 0))
    cache.get("ab")
    assert path.stat().st_mtime > 0


def test_what_was_never_finished_is_removed_when_it_is_old(cache):
    cache.put("ab", b"data")
    old, new = (cache.folder / "ab" / name for name in ("writing-old", "writing-new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.evict()
    assert (old.exists(), new.exists()) == (False, True)
    assert cache.get("ab") == b"data"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    assert not cache.put("ab", b"data")
    assert cache.get("ab") is None


def test_a_write_that_fails_leaves_nothing(cache, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert not cache.put("ab", b"data")
    assert list(cache.folder.glob("*/*")) == []


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path / "toolchain"
    monkeypatch.delenv("FORERUN_CACHE_DIR")
    assert cache_folder().parts[-2:] == ("forerun", "toolchain")
    assert cache_at(tmp_path) is cache_at(tmp_path)


WORKER = """
import sys
from pathlib import Path
from forerun.runtime.toolchain.cache import Cache
seed, cache = int(sys.argv[1]), Cache(Path(sys.argv[2]), largest=60_000)
def data(key): return (f"{key} " * 4000).encode() + bytes(range(256)) * key
hits = 0
for turn in range(300):
    key = (turn * 7 + seed * 3) % 20
    found = cache.get(f"{key:02}")
    assert found is None or found == data(key), key
    hits += found is not None
    assert cache.put(f"{key:02}", data(key))
    if turn % 10 == 0:
        cache.evict()
print(hits)
"""


def test_many_processes_at_once(tmp_path):
    """They write, read and evict the same keys: whoever finds something finds all of it."""
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen(
            [*command, str(seed), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in range(4)
    ]
    told = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, told
    assert all(int(out) > 0 for out, _ in told)
    assert list(tmp_path.glob("*/writing-*")) == []


COMPILER = """
import sys
from pathlib import Path
from forerun.runtime.toolchain import Cache, Source, compile_units
text = 'extern "C" __global__ void k(float* p) {{ p[threadIdx.x] = {}.f; }}'
sources = [Source(f"k{n}.cu", text.format(n)) for n in range(2)]
for cubin in compile_units(sources, cache=Cache(Path(sys.argv[1]))):
    print(hash(cubin.ptx), hash(cubin.code), len(cubin.entries["k"].of_kind("store")))
"""


@pytest.mark.usefixtures("toolchain")
def test_many_processes_compile_the_same(tmp_path):
    command = [sys.executable, "-c", COMPILER, str(tmp_path)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    told = [worker.communicate(timeout=600)[0] for worker in workers]
    assert told[0].count("\n") == 2
    assert told == [told[0]] * 3
