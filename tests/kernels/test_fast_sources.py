"""What the fused kernels compile to: what the body puts ahead of the wait stays there, and neighbours fit on an SM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from math import prod

import pytest

from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B, QWEN3_8B, SMOLLM2_135M
from forerun.ir.kernel import Kernel, Role, Trigger, Wait
from forerun.ir.types import DType
from forerun.kernels import norm_gate_up, projection_add, row_stream
from forerun.runtime.cuda.codegen.specialise import Unit
from forerun.runtime.toolchain import CompileError, EntryFacts, Source, compile_unit, compile_units, missing_toolchain
from tests.kernels.cuda_cases import Case
from tests.kernels.fast_cases import cases_of_model, few_cases
from tests.kernels.on_cpu.runner import unit_of
from tests.kernels.test_fast_declarations import EARLY

MISSING = missing_toolchain()
pytestmark = [pytest.mark.slow, pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

BF16 = DType.BF16
REGISTERS_OF_AN_SM = 65536
SHARED_OF_AN_SM = 228 * 1024
RESERVED = 1024

MODELS = {
    "llama": cases_of_model(LLAMA_3_2_1B, BF16, BF16, (2047,)),
    "smollm2": cases_of_model(SMOLLM2_135M, BF16, DType.F32, (511,)),
    "qwen2_5": cases_of_model(QWEN2_5_0_5B, BF16, BF16, (2047,)),
    "qwen3": cases_of_model(QWEN3_8B, BF16, BF16, (511,)),
    "128": cases_of_model(replace(LLAMA_3_2_1B, heads=16, kv_heads=4, head_size=128), DType.F16, DType.F16, (511,)),
    "f32": cases_of_model(replace(SMOLLM2_135M, heads=8, kv_heads=1), DType.F32, DType.F32, (511,)),
}
CASES = {name: list(cases) for name, cases in MODELS.items()}


def hoisted(kernel: Kernel) -> Kernel:
    """The kernel as passes leave it: triggers at once, and waits after all that may stand before."""
    count = len(EARLY[kernel.implementations[0].entry])
    steps = (Trigger(), *kernel.phases[:count], Wait(), *kernel.phases[count:])
    return kernel.with_roles(f"{kernel.name}.hoisted", (Role("all", steps),))


def compiled(cases: list[Case]) -> Iterator[tuple[Case, Unit, EntryFacts]]:
    found = [unit_of(hoisted(case.kernel), case.shapes, case.launch, **case.constants) for case in cases]
    cubins = compile_units([unit.source for unit in found if isinstance(unit.source, Source)])
    for case, unit, cubin in zip(cases, found, cubins, strict=True):
        yield case, unit, cubin.entries[unit.entry]


def registers(unit: Unit, facts: EntryFacts) -> int:
    """Of a CTA: they are given to warps in units of 256."""
    warps = -(-prod(unit.launch.block) // 32)
    return warps * -(-facts.registers * 32 // 256) * 256


def reads(facts: EntryFacts, *, early: bool) -> Counter[str]:
    """Opcodes of loads and copies from global memory before the wait, or after it."""
    kinds = [instruction.kind for instruction in facts.instructions]
    wait = kinds.index("wait")
    part = facts.instructions[:wait] if early else facts.instructions[wait:]
    return Counter(i.opcode for i in part if i.kind == "bulk" or i.opcode.startswith("LDG"))


def require_refilled_after_sums(late: list[str]) -> None:
    """Of the opcodes after the wait, the first copy comes after a fence, that after a sum, and that after all loads."""
    loop = late[: next(at for at, opcode in enumerate(late) if opcode.startswith("UBLKCP"))]
    loads, sums, fences = (
        max(at for at, opcode in enumerate(loop) if opcode.startswith(start))
        for start in ("LDS", "SHFL", "FENCE.VIEW.ASYNC")
    )
    assert loads < sums < fences


def require_clean(unit: Unit, facts: EntryFacts) -> None:
    assert facts.stack_bytes == facts.spill_store_bytes == facts.spill_load_bytes == 0, unit.entry
    assert not any(instruction.constant for instruction in facts.instructions), unit.entry
    assert [i.kind for i in facts.instructions].count("wait") == 1, unit.entry


# Ahead of the wait: a copy of weights, loads of biases, position and frequency. A thread has 16 bytes of the norm's
# weights, or several times that.
EARLY_READS: Mapping[str, Mapping[str, int]] = {
    "norm_qkv_rope": {"UBLKCP.S.G": 1, "LDG.E": 2},
    "norm_qkv_bias_rope": {"UBLKCP.S.G": 1, "LDG.E": 4},
    "norm_qkv_norm_rope": {"UBLKCP.S.G": 1, "LDG.E": 4},
    "norm_gate_up": {"UBLKCP.S.G": 1, "UBLKPF.L2": 1},
    "norm_head": {"UBLKCP.S.G": 1},
    "projection_add": {"UBLKCP.S.G": 1},
}


@pytest.mark.parametrize("model", CASES)
def test_kernels_of_models_read_ahead_of_the_wait_what_the_body_says(model: str) -> None:
    for case, unit, facts in compiled(CASES[model]):
        require_clean(unit, facts)
        name = case.kernel.implementations[0].entry
        early, late = reads(facts, early=True), reads(facts, early=False)
        if name == "attention_cluster":
            # The position; keys and values, at least four rows a lane. Then the present row, and the query.
            assert early["LDG.E"] == 1
            assert early["LDG.E.NA.128"] >= 8
            assert set(early) == {"LDG.E", "LDG.E.NA.128"}
            assert late["LDG.E.NA.128"] >= 2
        else:
            share = -(-case.shapes["x"][0] // (4 * prod(case.launch.block)))
            scales = {"LDG.E.128": share} if name.startswith("norm") else {}
            assert early == {**EARLY_READS[name], **scales}, unit.entry
            assert late["UBLKCP.S.G"] == 1  # the rings are filled anew
            assert late["LDG.E.128"] > 0


@pytest.mark.parametrize("model", CASES)
def test_a_tile_is_overwritten_only_after_its_sum(model: str) -> None:
    """A copy that began right after the loads of a tile was faster than they were, on an H100, and the sum wrong."""
    refilled = 0
    for _, _, facts in compiled(CASES[model]):
        opcodes = [instruction.opcode for instruction in facts.instructions]
        late = opcodes[opcodes.index("ACQBULK") :]
        if not any(opcode.startswith("UBLKCP") for opcode in late):
            continue
        refilled += 1
        require_refilled_after_sums(late)
    assert refilled >= 2


def test_large_kernels_fill_their_rings_while_little_is_on_its_way() -> None:
    """Llama's rows are 4 KB, a tile each: one or two of a warp, then each after another has come. Not so the head."""
    for model, paced in (("llama", {"norm_qkv_rope", "projection_add", "norm_gate_up"}), ("smollm2", set())):
        for case, unit, facts in compiled(CASES[model]):
            wait = [instruction.kind for instruction in facts.instructions].index("wait")
            awaits = any(i.opcode.startswith("SYNCS.PHASECHK") for i in facts.instructions[:wait])
            assert awaits == (case.kernel.implementations[0].entry in paced), unit.entry


ALL_BESIDE = {"smollm2", "qwen2_5", "f32"}
"""Models none of whose projections has more rings than fit beside gate and up."""


@pytest.mark.parametrize("model", CASES)
def test_each_kernel_fits_beside_the_next_one(model: str) -> None:
    qkv, attention, _, output, gate_up, down, head = compiled(CASES[model])
    chain = [qkv, attention, output, gate_up, down, qkv, attention, output, gate_up, down, head]
    for (_, unit, facts), (_, after, after_facts) in pairwise(chain):
        assert registers(unit, facts) + registers(after, after_facts) <= REGISTERS_OF_AN_SM, (unit.entry, after.entry)
        taken = sum(RESERVED + u.launch.shared_bytes + f.shared_bytes for u, f in ((unit, facts), (after, after_facts)))
        assert taken <= SHARED_OF_AN_SM or model not in ALL_BESIDE, (unit.entry, after.entry)


def test_the_first_load_after_the_wait_is_the_row_of_this_step() -> None:
    for case, _, facts in compiled(CASES["llama"][1:3]):
        assert case.kernel.name.startswith("attention_cluster")
        loads = [i.opcode for i in facts.instructions if i.opcode.startswith("LDG")]
        count = reads(facts, early=True).total()
        assert loads[count : count + 3] == ["LDG.E.NA.128", "LDG.E.NA.128", "LDG.E.128"]


def test_every_shape_and_launch_compiles() -> None:
    for _, unit, facts in compiled(list(few_cases())):
        require_clean(unit, facts)


@pytest.mark.parametrize(
    ("columns", "dtype", "rows", "shared_bytes"),
    [(2048, BF16, 126, 107216), (576, BF16, 24, 100912), (896, DType.F32, 74, 60000), (4096, DType.F16, 40, 50000)],
)
def test_the_ring_is_as_deep_as_the_host_thinks(columns: int, dtype: DType, rows: int, shared_bytes: int) -> None:
    launch = replace(norm_gate_up.launch_for(rows * 66, columns, dtype), block=(256, 1, 1), shared_bytes=shared_bytes)
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | dict.fromkeys(("w_gate", "w_up"), (rows * 66, columns))
    unit = unit_of(norm_gate_up.declare(dtype), shapes | {"y": (rows * 66,)}, launch, eps=1e-5)
    depth = row_stream.ring_depth(columns, dtype, rows, launch, normalized=True)
    split = row_stream.split_of(columns, dtype)
    assert isinstance(unit.source, Source)
    checks = f"namespace norm_gate_up {{ static_assert(depth == {depth} && split == {split}); }}\n"
    compile_unit(replace(unit.source, text=unit.source.text + checks))


@pytest.mark.parametrize(
    ("columns", "shared_bytes", "said"),
    [
        (4, 4096, "rows, and their parts, must be multiples of 16 bytes"),
        (40960, 200_000, "rows are too long for so few warps"),
        (2048, 30_000, "the launch's shared memory must hold a tile a warp and a sum a row"),
    ],
)
def test_what_cannot_run_is_refused_by_name(columns: int, shared_bytes: int, said: str) -> None:
    launch = replace(projection_add.launch_for(64, 64), shared_bytes=shared_bytes)
    shapes = {"w": (64, columns), "x": (columns,), "residual": (64,), "y": (64,)}
    unit = unit_of(projection_add.declare(BF16), shapes, launch)
    assert isinstance(unit.source, Source)
    with pytest.raises(CompileError, match=said):
        compile_unit(unit.source)
