"""What the cache keeps of a unit: entries that are whole and wrong are made again, and never raised."""

from __future__ import annotations

import base64
import json

import pytest
from toolchain_samples import dot_kernel, kernel

from forerun.runtime.toolchain import Source, compile_unit
from forerun.runtime.toolchain import compile as compile_module
from forerun.runtime.toolchain import record as record_module
from forerun.runtime.toolchain.cache import key_of
from forerun.runtime.toolchain.elf import architecture
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.record import FORMAT, Record

pytestmark = pytest.mark.usefixtures("toolchain")

WRONG = {
    "nothing": b"",
    "not JSON": b"{",
    "not text": b"\xff\xfe",
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "no fields": b"{}",
    "code": {"code": 7},
    "not base64": {"code": "***"},
    "no code": {"code": ""},
    "not a cubin": {"code": base64.b64encode(b"MZ" + bytes(1000)).decode()},
    "another ELF": {"code": base64.b64encode(b"\x7fELF\x02\x01" + bytes(1000)).decode()},
    "ptx": {"ptx": ["x"]},
    "other PTX": {"ptx": ".target sm_90\n.visible .entry other()"},
    "log": {"log": None},
    "no entries": {"entries": {}},
    "a list of entries": {"entries": ["entry"]},
    "entries without facts": {"entries": {"entry": {}}},
    "unknown facts": {"entries": {"entry": {"speed": 3}}},
    "not numbers": {"entries": {"entry": "many"}},
}


def planted(cache, change):
    """Put what is wrong where the unit's entry is, with a good checksum."""
    (path,) = cache.folder.glob("*/*.entry")
    kept = cache.get(path.stem)
    changed = change if isinstance(change, bytes) else json.dumps({**json.loads(kept), **change}).encode()
    assert cache.put(path.stem, changed)
    return path.stem, kept


@pytest.fixture
def builds(monkeypatch):
    """The names of the units that were really built."""
    built = []
    original = compile_module._build

    def build(source, *rest):
        built.append(source.name)
        return original(source, *rest)

    monkeypatch.setattr(compile_module, "_build", build)
    return built


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_made_again(cache, builds, wrong):
    first = compile_unit(dot_kernel(), cache=cache)
    key, kept = planted(cache, wrong)
    assert compile_unit(dot_kernel(), cache=cache) == first
    assert len(builds) == 2
    assert cache.get(key) == kept


@pytest.mark.parametrize("cut", [1, 64, 500, -4000])
def test_an_image_that_ends_too_early_is_made_again(cache, builds, cut):
    first = compile_unit(dot_kernel(), cache=cache)
    planted(cache, {"code": base64.b64encode(first.code[:-cut]).decode()})
    assert compile_unit(dot_kernel(), cache=cache) == first
    assert len(builds) == 2


def test_an_image_for_another_architecture_is_made_again(cache, builds):
    other = compile_unit(dot_kernel(), "sm_100", cache=cache)
    for path in cache.folder.glob("*/*.entry"):
        path.unlink()
    first = compile_unit(dot_kernel(), cache=cache)
    planted(cache, {"code": base64.b64encode(other.code).decode()})
    assert compile_unit(dot_kernel(), cache=cache) == first
    assert len(builds) == 3


def test_numbers_are_whole_and_not_negative(cache, builds):
    first = compile_unit(dot_kernel(), cache=cache)
    (path,) = cache.folder.glob("*/*.entry")
    entry = json.loads(cache.get(path.stem))["entries"]["entry"]
    for number in (-1, 1.5, True, "8", None, {}):
        planted(cache, {"entries": {"entry": {**entry, "registers": number}}})
        assert compile_unit(dot_kernel(), cache=cache) == first
    assert len(builds) == 7


@pytest.mark.parametrize("wrong", [b"", b"\xff", b"no listing", b".text.other:\n /*0000*/ RET ;\n", b".text.entry:\n"])
def test_a_listing_of_something_else_is_made_again(cache, wrong):
    first = compile_unit(dot_kernel(), cache=cache)
    expected = list(first.entries["entry"].instructions)
    key = key_of("sass", FORMAT, first.code, require_disassembler().identity)
    kept = cache.get(key)
    cache.put(key, wrong)
    assert list(compile_unit(dot_kernel(), cache=cache).entries["entry"].instructions) == expected
    assert cache.get(key) == kept


def test_renewing_compiles_whatever_is_kept(cache, builds):
    first = compile_unit(dot_kernel(), cache=cache)
    assert compile_unit(dot_kernel(), cache=cache, fresh=True) == first
    assert len(builds) == 2


@pytest.mark.parametrize("arch", ["sm_90", "sm_90a", "sm_100a", "sm_120"])
def test_what_is_kept_can_be_read(cache, builds, monkeypatch, arch):
    text = 'extern "C" __global__ void a() {}\n__device__ __noinline__ int f(int x) { return x * x; }\n'
    text += "template <int N> __global__ void b(int* p) { *p = f(*p) + N; }\ntemplate __global__ void b<3>(int*);"
    units = [dot_kernel(), kernel("*p = 1.f;"), Source("two.cu", text)]
    for unit in units:
        made = compile_unit(unit, arch, cache=cache)
        assert f"sm_{architecture(made.code)}" == arch.rstrip("a")
        again = compile_unit(unit, arch, cache=cache)
        assert again == made
        listings = {name: list(facts.instructions) for name, facts in made.entries.items()}
        with monkeypatch.context() as patch:
            patch.setattr(record_module, "disassemble", None)  # it is not called again
            assert {name: list(facts.instructions) for name, facts in again.entries.items()} == listings
    assert len(builds) == len(units)


def test_nothing_is_read_of_nothing():
    assert Record.read(b"{}", "sm_90") is None
