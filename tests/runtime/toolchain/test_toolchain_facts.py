"""Facts of compiled kernels: what stands where around the wait and the trigger, in real machine code."""

from __future__ import annotations

import pytest
from toolchain_samples import DEVICE, DOT, dot_kernel, line_of

from forerun.runtime.toolchain import Cache, Source, compile_unit, missing_toolchain

pytestmark = pytest.mark.usefixtures("toolchain")

_COUNT = 60
_VALUES = "".join(f"float v{i} = p[{i} * 64 + threadIdx.x]; " for i in range(_COUNT))
_STORES = "".join(f"p[{i} * 64 + threadIdx.x] = v{_COUNT - 1 - i}; " for i in range(_COUNT))

BODIES = {
    "never_waits": "trigger(); p[threadIdx.x] = p[threadIdx.x + 1];",
    "triggers_first": "trigger(); wait(); p[threadIdx.x] = 1.f;",
    "some_wait": "if (threadIdx.x < 32) { p[0] = 2.f; wait(); p[1] = 1.f; } p[threadIdx.x + 64] = 3.f;",
    "loops": """
        float s = 0.f;
        #pragma unroll 1
        for (int i = 0; i < n; i++) { s += load(p + i * 4).x; }
        wait();
        *p = s;""",
    "shared": "__shared__ float s[96]; s[threadIdx.x] = *p; __syncthreads(); *p = s[threadIdx.x ^ 1];",
    "calls": "*p = far(*p);",
    "bulk": """
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], 64;" :: "l"(p) : "memory");
        wait();
        atomicAdd(p + threadIdx.x % 7, 1.f);""",
    "switches": """
        switch (n) {
            case 0: p[0] = 1.f; break;
            case 1: p[1] = p[2]; break;
            case 2: p[3] = sinf(p[5]); break;
            case 3: p[6] = p[7] / p[8]; break;
            case 4: wait(); p[9] = p[10]; break;
            case 5: p[11] = 3.f * p[12]; __syncthreads(); p[13] = p[14];
        }""",
    "spills": f"{_VALUES} wait(); {_STORES}",
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """The facts of every kernel above: they are one unit, since that takes one disassembly."""
    if missing_toolchain() is not None:
        return {}
    far = "__device__ __noinline__ float far(float a) { return a > 0.f ? a * 3.f : a * a; }"
    kernels = [_kernel(name, body) for name, body in BODIES.items()]
    text = "\n".join(['#include "device.cuh"', far, *kernels])
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return compile_unit(Source("k.cu", text, (("device.cuh", DEVICE),)), cache=cache).entries


def _kernel(name: str, body: str) -> str:
    limit = "__maxnreg__(24)" if name == "spills" else ""
    return f'extern "C" __global__ void {limit} {name}(float* p, int n) {{ {body} }}'


def test_a_plain_load_stays_above_the_wait(cache):
    source = dot_kernel("load")
    entry = compile_unit(source, cache=cache).entries["entry"]
    (early,) = entry.before_wait("load")
    file, line = early.source[0]
    assert file == "device.cuh"
    assert 0 <= line - line_of(DEVICE, "// ordered") <= 1  # a statement of two lines
    assert early.source[1:] == (
        ("dot.cu", line_of(DOT, "// weights")),
        ("unit.cu", line_of(source.text, "load_weights(w")),
    )
    assert not early.constant
    (late,) = entry.after_wait("load")
    assert ("dot.cu", line_of(DOT, "// input")) in late.source
    assert not any(file == "dot.cu" and line < line_of(DOT, "// weights") for file, line in late.source)
    assert "unit.cu" in dict(late.source)
    assert len(entry.after_wait("store")) == 1
    assert entry.waits
    assert entry.always_waits
    assert entry.waits_before_trigger
    assert [i.kind for i in entry.of_kind("load", "wait", "trigger")] == ["load", "wait", "load", "trigger"]


def test_an_unordered_load_is_sunk_below_the_wait(cache):
    entry = compile_unit(dot_kernel("load_constant"), cache=cache).entries["entry"]
    assert entry.before_wait("load") == ()
    assert [load.constant for load in entry.after_wait("load")].count(True) == 1


def test_a_kernel_that_never_waits(facts):
    entry = facts["never_waits"]
    assert not entry.waits
    assert not entry.always_waits
    assert not entry.waits_before_trigger
    assert entry.before_wait("load", "store") == entry.of_kind("load", "store")
    assert entry.after_wait() == ()
    assert entry.before_trigger("load", "store") == ()


def test_a_trigger_before_the_wait(facts):
    assert facts["triggers_first"].always_waits
    assert not facts["triggers_first"].waits_before_trigger


def test_a_wait_of_some_threads_only(facts):
    entry = facts["some_wait"]
    assert entry.waits
    assert not entry.always_waits
    # The last store is reached on a way round the wait.
    assert len(entry.before_wait("store")) == 2
    assert len(entry.after_wait("store")) == 1


def test_a_loop_before_the_wait(facts):
    entry = facts["loops"]
    assert entry.before_wait("load")
    assert entry.after_wait("load") == ()
    assert entry.before_wait("store") == ()
    assert entry.always_waits
    assert any(target < i.offset for i in entry.of_kind("branch") for target in i.targets)


def test_shared_memory_and_barriers(facts):
    assert facts["shared"].shared_bytes == 96 * 4
    assert facts["shared"].of_kind("barrier")
    assert len(facts["shared"].of_kind("load")) == 1  # those of shared memory are not counted


def test_a_function_that_is_not_inlined(facts):
    entry = facts["calls"]
    assert any(i.opcode.startswith("CALL") and i.targets for i in entry.of_kind("branch"))
    assert len(entry.before_wait("load")) == len(entry.of_kind("load")) == 1


def test_atomics_and_bulk_copies(facts):
    assert len(facts["bulk"].before_wait("bulk")) == 1
    assert facts["bulk"].after_wait("store")


def test_a_jump_table(facts):
    entry = facts["switches"]
    assert entry.waits
    assert not entry.always_waits
    assert len(entry.after_wait("load")) == len(entry.after_wait("store")) == 1
    assert len(entry.before_wait("store")) == len(entry.of_kind("store")) - 1 >= 6


def test_spills_and_stack(facts):
    entry = facts["spills"]
    assert entry.registers <= 24
    assert entry.spill_store_bytes > 0
    assert entry.spill_load_bytes > 0
    assert entry.stack_bytes > 0
    others = [found for name, found in facts.items() if name not in ("spills", "calls")]
    assert [found.spill_store_bytes for found in others] == [0] * len(others)


def test_every_entry_has_its_own_facts(facts):
    assert facts.keys() == BODIES.keys()
    assert all(found.registers > 0 and found.constant_bytes >= 12 for found in facts.values())


def test_instructions_lie_16_bytes_apart(facts):
    instructions = facts["loops"].instructions
    assert [i.offset for i in instructions] == [16 * n for n in range(len(instructions))]
    assert isinstance(instructions[:2], tuple)
