"""Decode steps whose weights stay quantised blocks, against the same shapes in bf16 or f16, on one GPU (batch 1).

All versions of a model are measured in one process, in turns, with CUDA events: graphs of two steps from position 496
on, microseconds a step. Blocks are random. Two things are compared, too:

- Before anything is timed, the logits of every version with those of the plain graph of the same weights, whose kernels
  widen each weight to f32.
- With ``--gguf``, those of one layer of the widths with the f32 graph of what the ``gguf`` package makes of the blocks.

    python benchmarks/quantised.py --models llama_1b llama_8b smollm2 --ablation --variants
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import torch
from common import Metric, bootstrap_median, bootstrap_median_ratio, write_result
from llama_step import Setting, check, in_turns, launching
from quantised_variants import VARIANTS, Variant, variant
from rows import ABLATION, FULL_EDGES
from torch_llama import draw_weights

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import (
    LLAMA_3_1_8B,
    LLAMA_3_2_1B,
    SMOLLM2_135M,
    LlamaConfig,
    weight_shapes,
)
from forerun.ir.types import DType
from forerun.kernels import norm_head
from forerun.kernels.packing import PACKINGS, Packing, packed
from forerun.measure.bandwidth import read_bandwidth
from forerun.passes.infra.named_pipelines import FAST_PIPELINE
from forerun.runtime.cuda import CudaTarget

CONTEXT, POSITION, STEPS = 1024, 496, 2
TOLERANCE = 1e-4
"""Relative L2 of logits, against f32 sums of the same weights: of that, vectors in fixed point of 23 bits, and sums in
another order, are a few 1e-6 after 16 layers; a row of a bf16 cache that rounds the other way can be more."""
ROWS = {"full_edges": FULL_EDGES, "hoist_lost": ABLATION["fused"]}
"""Versions beside ``fast``, in which hoists survive: nothing starts early; or loads of weights stay after the wait."""
_F16 = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q4_K": (0, 2), "Q6_K": (208,)}
"""At which bytes of a file's block scales stand."""

_Way: TypeAlias = tuple[str, str | None, Variant]
"""Pipeline, tuning and the variant of kernels."""

MODELS: dict[str, tuple[LlamaConfig, DType, dict[str, tuple[str, str]]]] = {
    "llama_1b": (LLAMA_3_2_1B, DType.BF16, {"q8_0": ("Q8_0", "Q8_0"), "q4_k": ("Q4_K", "Q4_K")}),
    "llama_8b": (LLAMA_3_1_8B, DType.BF16, {"q4_k": ("Q4_K", "Q4_K")}),
    "smollm2": (SMOLLM2_135M, DType.F16, {"quantised": ("Q8_0", "Q4_1")}),
}
"""Shapes, the type that is compared with, and by name the kinds of blocks: of the embedding table, and of the others.
SmolLM2's are those of its own file."""


@dataclass(frozen=True)
class Version(Setting):
    """Weights that are stored in one way; in ``matrices`` or, as packings say, in blocks."""

    matrices: DType = DType.BF16
    packings: Mapping[str, Packing] = field(default_factory=dict)

    def graph(self, steps: int, context: int) -> forerun.Graph:
        return decode_graph(
            self.config,
            context=context,
            steps=steps,
            dtype=self.matrices,
            cache_dtype=DType.BF16,
            splits=16,
            argmax_parts=norm_head.PARTS,
            packings=self.packings,
        )

    @property
    def bytes_of_step(self) -> int:
        """Bytes of weights that a step reads: all, but of the table one row, unless it is the output matrix too."""
        table = 0 if self.config.tied else self.weights["token_embd.weight"].nbytes
        return sum(w.nbytes for w in self.weights.values()) - table


def packings_of(config: LlamaConfig, kinds: tuple[str, str]) -> dict[str, Packing]:
    table, others = (PACKINGS[kind] for kind in kinds)
    matrices = [name for name, shape in weight_shapes(config) if len(shape) == 2]
    return {name: table if name == "token_embd.weight" else others for name in matrices}


def random_blocks(packing: Packing, rows: int, columns: int, chooser: np.random.Generator) -> np.ndarray:
    """Blocks as in a file: random quants, with scales that give weights of deviation about 0.02.

    Their mean over any 32 weights is near 0, as in files: else queries and keys grow so large that heads attend to
    their own position alone, whose row is rounded to bf16, and roundings the other way are seen in logits (NOTES.md).
    """
    blocks = np.frombuffer(chooser.bytes(rows * columns // packing.block * packing.block_bytes), np.uint8)
    blocks = blocks.reshape(-1, packing.block_bytes).copy()
    size = {"q8_0": 74.0, "q4_0": 4.6, "q4_1": 4.6, "q4_k": 4.6 * 50, "q6_k": 18.5 * 74}[packing.name]
    scale = chooser.uniform(0.5, 1.5, len(blocks)) * 0.02 / size
    mean = {"q4_1": -7.5, "q4_k": 7.5}.get(packing.name, 0.0)
    for place, factor in zip(_F16[packing.dimension], (1.0, mean), strict=False):
        blocks[:, place : place + 2] = (factor * scale).astype(np.float16)[:, None].view(np.uint8)
    if packing.name == "q4_k":
        scales = chooser.integers(38, 62, (len(blocks), 8), np.uint8)
        minima = scales + chooser.integers(0, 5, scales.shape, np.uint8) - np.uint8(2)
        blocks[:, 4:16] = six_bit_pairs(scales, minima)
    return blocks.reshape(rows, -1)


def six_bit_pairs(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """The 12 bytes in which a block of Q4_K has 8 scales and 8 minima of 6 bits each."""
    first = [part[:, :4] | part[:, 4:] >> 4 << 6 for part in (scales, minima)]
    return np.concatenate((*first, scales[:, 4:] & 15 | minima[:, 4:] << 4), axis=1)


def random_packed(packing: Packing, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """The same, packed, on the device: what of a GB of blocks would take a processor long."""
    tiles = packing.tiles(columns)
    assert tiles is not None
    shape = rows, packing.row_bytes(columns)
    found = torch.randint(256, shape, generator=generator, device="cuda", dtype=torch.uint8)
    sizes = packing.plane_bytes(columns // tiles)
    few = torch.from_numpy(packed(random_blocks(packing, 64, columns, np.random.default_rng(3)), packing)).cuda()
    chosen = torch.randint(64, (rows,), generator=generator, device="cuda")
    into, source = found.view(rows, tiles, -1), few.view(64, tiles, -1)
    start = sum(size for size, (entry, _) in zip(sizes, packing.planes, strict=True) if entry == 16)
    into[:, :, start:] = source[chosen, :, start:]
    return found


def random_rows(config: LlamaConfig, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """KV rows of all positions, by cache."""
    size = (CONTEXT, config.kv_heads, config.head_size)
    return {
        f"blk.{layer}.{cache}": torch.randn(size, generator=generator, device="cuda").to(torch.bfloat16)
        for layer in range(config.layers)
        for cache in ("k_cache", "v_cache")
    }


def versions_of(model: str) -> dict[str, Version]:
    """All versions of a model: the plain one first."""
    config, dtype, kinds = MODELS[model]
    drawn = draw_weights(config)
    narrow = {DType.BF16: torch.bfloat16, DType.F16: torch.float16}[dtype]
    plain = {name: w.to(narrow).contiguous() if w.ndim == 2 else w for name, w in drawn.items()}
    vectors = {name: w for name, w in drawn.items() if w.ndim < 2}
    del drawn
    generator = torch.Generator("cuda").manual_seed(5)
    rows = random_rows(config, generator)
    found = {str(dtype): Version(config, plain, rows, dtype)}
    shapes = dict(weight_shapes(config))
    for name, pair in kinds.items():
        packings = packings_of(config, pair)
        matrices = {n: random_packed(packing, *shapes[n], generator) for n, packing in packings.items()}
        found[name] = Version(config, vectors | matrices, rows, dtype, packings)
    return found


def check_against_gguf(model: str, name: str, layers: int = 1, vocabulary: int = 1024) -> float:
    """Relative L2 of logits of a layer of these widths, against the f32 graph of the dequantised blocks."""
    config, _, kinds = MODELS[model]
    config = replace(config, layers=layers, vocabulary=vocabulary)
    packings, shapes = packings_of(config, kinds[name]), dict(weight_shapes(config))
    vectors = {n: w for n, w in draw_weights(config).items() if w.ndim < 2}

    def both(entry: tuple[int, str]) -> tuple[np.ndarray, np.ndarray]:
        number, matrix = entry
        packing = packings[matrix]
        raw = random_blocks(packing, *shapes[matrix], np.random.default_rng(number))
        return packed(raw, packing), gguf.dequantize(raw, gguf.GGMLQuantizationType[packing.dimension])

    with ThreadPoolExecutor() as pool:
        pairs = dict(zip(packings, pool.map(both, enumerate(packings)), strict=True))
    rows = random_rows(config, torch.Generator("cuda").manual_seed(5))
    blocks, values = ({n: torch.from_numpy(pair[i]).cuda() for n, pair in pairs.items()} for i in (0, 1))
    quantised = Version(config, vectors | blocks, rows, DType.BF16, packings)
    widened = Version(config, vectors | values, rows, DType.F32)
    logits = []
    for version, pipeline in ((widened, ""), (quantised, FAST_PIPELINE)):
        with version.compile(version.graph(1, CONTEXT), pipeline) as executable:
            version.fill(executable)
            logits.append(executable.run({"token": [11], "position": [POSITION]})["logits"])
    error = float(np.linalg.norm(logits[1] - logits[0]) / np.linalg.norm(logits[0]))
    assert error < TOLERANCE, f"{model} {name}: relative L2 error {error:.1e} against the dequantised blocks"
    return error


def measure(model: str, rounds: int, *, ablation: bool, tuned: bool, variants: bool) -> dict[str, Metric]:
    """All versions of a model in turns."""
    metrics: dict[str, Metric] = {}
    began = time.perf_counter()

    def told(what: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s {model} {what}", flush=True)

    plain, *names = (versions := versions_of(model))
    told("weights drawn")
    stream = torch.cuda.Stream()
    with contextlib.ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        for name, version in versions.items():
            graph = version.graph(STEPS, CONTEXT)
            with version.compile(graph, "") as reference:
                version.fill(reference)
                found = reference.run({"token": [11], "position": [POSITION]})
                expected = {POSITION: (found["next_token"], found["logits"])}
            rows = ablation and name == names[-1]
            ways = _ways_of_plain(name, tuned) if name == plain else _ways(name, rows, variants)
            for key, (pipeline, tuning, kernels) in ways.items():
                with variant(kernels):
                    executable = stack.enter_context(version.compile(graph, pipeline, tuning=tuning))
                error = check(version, executable, expected)
                assert error < TOLERANCE, f"{key}: relative L2 error {error:.1e}"
                metrics[f"{model}.{key}_logits_rel_l2"] = _exact(error, "ratio")
                runs[key] = stack.enter_context(launching(executable, stream, POSITION))
                told(f"{key}: ready, error {error:.1e}")
        told("all compared")
        times = in_turns(runs, stream, rounds, 8)
    bandwidth = read_bandwidth(CudaTarget())
    metrics["read_bandwidth_gbs"] = _exact(bandwidth / 1e9, "GB/s")
    for key, found in times.items():
        metrics[f"{model}.{key}_us"] = bootstrap_median([us / STEPS for us in found], "us")
    for name, version in versions.items():
        share = version.bytes_of_step / bandwidth / (metrics[f"{model}.{name}_us"].value * 1e-6)
        metrics[f"{model}.{name}_read_share"] = _exact(share, "ratio")
    base = f"{plain}_tuned" if f"{plain}_tuned" in times else plain
    for name in names:
        metrics[f"{model}.{name}_speedup"] = bootstrap_median_ratio(times[base], times[name])
        metrics[f"{model}.{name}_speedup_over_default"] = bootstrap_median_ratio(times[plain], times[name])
    for row in ROWS if ablation else ():
        ratio = bootstrap_median_ratio(times[f"{names[-1]}_{row}"], times[names[-1]])
        metrics[f"{model}.{names[-1]}_speedup_over_{row}"] = ratio
    for key, found in times.items():
        print(f"{model} {key:28} {statistics.median(found) / STEPS:8.1f} us", flush=True)
    return metrics


def _ways_of_plain(name: str, tuned: bool) -> dict[str, _Way]:
    """How the plain version is compiled, by the name of what is measured."""
    found: dict[str, _Way] = {name: (FAST_PIPELINE, None, Variant())}
    return found | ({f"{name}_tuned": ("fast", "auto", Variant())} if tuned else {})


def _ways(name: str, ablation: bool, variants: bool) -> dict[str, _Way]:
    """How a quantised version is compiled, by the name of what is measured."""
    found: dict[str, _Way] = {name: (FAST_PIPELINE, None, Variant())}
    if ablation:
        found |= {f"{name}_{row}": (pipeline, None, Variant()) for row, pipeline in ROWS.items()}
    if variants:
        found |= {f"{name}_{kind}": (FAST_PIPELINE, None, kernels) for kind, kernels in VARIANTS.items()}
    return found


def _exact(value: float, unit: str) -> Metric:
    return Metric(value, unit, value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ablation", action="store_true", help="the last kind of blocks with full edges, and no hoist")
    parser.add_argument(
        "--gguf", action="store_true", help="also compare a layer with what the gguf package makes of it"
    )
    parser.add_argument("--tuned", action="store_true", help="compare with the tuned graph, where forerun brings one")
    parser.add_argument("--variants", action="store_true", help="of each kind of blocks also quantised_variants.py")
    parser.add_argument("--folder", type=Path, help="where to write quantised.json, instead of benchmarks/results")
    arguments = parser.parse_args()
    metrics: dict[str, Metric] = {}
    folder = {} if arguments.folder is None else {"folder": arguments.folder}
    for model in arguments.models:
        rows = {"ablation": arguments.ablation, "tuned": arguments.tuned, "variants": arguments.variants}
        metrics |= measure(model, arguments.rounds, **rows)
        torch.cuda.empty_cache()
        write_result("quantised", metrics, **folder)
    for model in arguments.models if arguments.gguf else ():
        for name in MODELS[model][2]:
            metrics[f"{model}.{name}_gguf_rel_l2"] = _exact(check_against_gguf(model, name), "ratio")
            write_result("quantised", metrics, **folder)


if __name__ == "__main__":
    main()
