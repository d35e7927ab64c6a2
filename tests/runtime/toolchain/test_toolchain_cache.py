"""The cache: what it keeps, loses and notices, with many processes at once."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
import zlib

import pytest

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain import Source, compile_unit, compile_units
from forerun.runtime.toolchain import cache as cache_module
from forerun.runtime.toolchain import compile as compile_module
from forerun.runtime.toolchain.cache import Cache, cache_at, key_of


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
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FORERUN_CACHE_DIR")
    assert cache_folder().name == "forerun"
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


def test_an_entry_under_another_name_is_noticed(cache):
    cache.put("ab12", b"of ab12")
    cache.put("cd34", b"of cd34")
    cache._path("cd34").write_bytes(cache._path("ab12").read_bytes())
    assert cache.get("cd34") is None
    assert cache.get("ab12") == b"of ab12"


def test_what_would_become_too_large_is_not_read(cache, monkeypatch):
    monkeypatch.setattr(cache_module, "_LARGEST_ENTRY", 1000)
    assert cache.put("ab12", bytes(100_000))
    assert cache.get("ab12") is None
    assert cache.put("ab12", bytes(1000))
    assert cache.get("ab12") == bytes(1000)


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners, modes and links are those of POSIX")


@posix
def test_only_plain_files_that_nobody_else_can_write_are_read(cache, tmp_path, monkeypatch):
    cache.put("ab12", b"data")
    path = cache._path("ab12")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert cache.get("ab12") is None
    path.chmod(0o644)
    assert cache.get("ab12") == b"data"
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    assert cache.get("ab12") is None
    path.unlink()
    os.mkfifo(path)
    assert cache.get("ab12") is None
    path.unlink()
    moved.rename(path)
    assert cache.get("ab12") == b"data"
    monkeypatch.setattr(cache_module, "_is_own", lambda state: False)
    assert cache.get("ab12") is None


@posix
def test_files_of_other_users_are_not_read():
    state = os.stat(__file__)
    values = list(state)
    values[4], values[0] = os.geteuid() + 1, stat.S_IFREG | 0o600
    assert not cache_module._is_own(os.stat_result(values))
    values[4] = os.geteuid()
    assert cache_module._is_own(os.stat_result(values))


@posix
def test_links_are_neither_followed_nor_emptied(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.entry").write_bytes(bytes(5000))
    (elsewhere / "letter.txt").write_bytes(bytes(5000))
    cache = Cache(tmp_path / "cache", largest=1000)
    cache.folder.mkdir()
    (cache.folder / "ab").symlink_to(elsewhere, target_is_directory=True)
    assert not cache.put("ab12", b"data")
    cache.put("cd12", os.urandom(2000))
    (cache.folder / "cd" / "letter.txt").write_bytes(bytes(5000))
    cache.evict()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["kept.entry", "letter.txt"]
    assert (cache.folder / "cd" / "letter.txt").exists()


WRONG = [
    b"",
    b"[]",
    b"null",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b'{"code": "", "ptx": "", "log": "", "entries": {}}',
    b'{"code": "AAAA", "ptx": "", "log": "", "entries": {"k": {}}}',
    b'{"code": "!", "ptx": "", "log": "", "entries": {}}',
    b'{"code": 3, "ptx": "", "log": "", "entries": {}}',
]


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("wrong", [*WRONG, "entries", "code", "fields", "ptx"])
def test_an_entry_that_is_well_summed_and_wrong_is_made_again(cache, wrong):
    source = Source("k.cu", 'extern "C" __global__ void k(float* p) { *p = 1.f; }')
    expected = compile_unit(source, cache=cache)
    (path,) = cache.folder.glob("*/*")
    key = path.name.removesuffix(".entry")
    if isinstance(wrong, str):
        record = json.loads(cache.get(key))
        change = {
            "entries": lambda: record["entries"].update(other=record["entries"]["k"]),
            "code": lambda: record.update(code=base64.b64encode(base64.b64decode(record["code"])[:900]).decode()),
            "fields": lambda: record["entries"]["k"].update(nothing=1),
            "ptx": lambda: record.update(ptx=3),
        }
        change[wrong]()
        wrong = json.dumps(record).encode()
    cache.put(key, wrong)
    again = compile_unit(source, cache=cache)
    assert (again.code, again.ptx, again.entries.keys()) == (expected.code, expected.ptx, expected.entries.keys())
    assert json.loads(cache.get(key))["ptx"] == expected.ptx


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(
    "wrong", [b"", b"\xff\xfe", b"no listing", b".text.k:\n", b".text.other:\n  /*0000*/  EXIT ;\n"]
)
def test_a_listing_that_is_wrong_is_made_again(cache, wrong):
    source = Source("k.cu", 'extern "C" __global__ void k(float* p) { *p = 1.f; }')
    expected = list(compile_unit(source, cache=cache).entries["k"].instructions)
    keys = [path.name.removesuffix(".entry") for path in cache.folder.glob("*/*")]
    (key,) = [key for key in keys if b"EXIT" in cache.get(key) and not cache.get(key).startswith(b"{")]
    cache.put(key, wrong)
    assert list(compile_unit(source, cache=cache).entries["k"].instructions) == expected
    assert b"EXIT" in cache.get(key)


@pytest.mark.usefixtures("toolchain")
def test_a_fresh_build_replaces_what_is_there(cache, monkeypatch):
    source = Source("k.cu", 'extern "C" __global__ void k(float* p) { *p = 1.f; }')
    code = compile_unit(source, cache=cache).code
    built = []
    original = compile_module._build
    monkeypatch.setattr(compile_module, "_build", lambda *rest: built.append(1) or original(*rest))
    assert compile_unit(source, cache=cache).code == code
    assert compile_units([source], cache=cache, fresh=True)[0].code == code
    assert built == [1]


@posix
@pytest.mark.parametrize("change", ["second name", "folder"])
def test_a_file_with_two_names_and_a_folder_are_not_read(cache, change):
    cache.put("ab12", b"data")
    path = cache._path("ab12")
    if change == "folder":
        path.unlink()
        path.mkdir()
        os.utime(path, (0, 0))
    else:
        os.link(path, cache.folder / "downloaded")
    assert cache.get("ab12") is None
    cache.largest = 0
    cache.evict()
    assert path.is_dir() == (change == "folder")


@pytest.mark.parametrize("body", [b"", b"not compressed", zlib.compress(b"data")[:-1], zlib.compress(b"data") + b"!"])
def test_what_is_summed_and_cannot_be_unpacked_is_not_read(cache, body):
    cache.put("ab12", b"data")
    cache._path("ab12").write_bytes(cache_module._checksum("ab12", body) + body)
    assert cache.get("ab12") is None
    assert cache.put("ab12", b"new")
    assert cache.get("ab12") == b"new"
