"""Prompts of different length in one step, on a GPU: right, the same bits alone, and how fast.

    python -m benchmarks.prompts [--dry-run] [--shape llama-3.2-1b] [--out FOLDER] [--nodes]

Weights are drawn on the GPU, and rounded to bf16. First the logits of prompts, together in a batch, are compared with
an f32 model in PyTorch that has the rounded weights, and, bit by bit, with those that each prompt gets alone; then so
are those of decode steps beside others. Then times: a prompt of 1,024 tokens in one step, and decode steps of one and
of eight requests, by the clock of the GPU. ``--nodes`` tells which kernels take the time. ``--dry-run`` compiles
everything for sm_90a, and needs no GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median, write_result
from forerun.frontends.llama_config import LlamaConfig, shape_named
from forerun.frontends.ragged_batch import Feed, batch_inputs
from forerun.frontends.ragged_step import RaggedCapacity, ragged_step_graph
from forerun.ir.types import DType
from forerun.measure.node_table import by_kernel, node_rows
from forerun.measure.step import step_samples, timeline_of_step
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import compile_units

CAPACITY = RaggedCapacity(requests=8, rows=1024, context=1280)
LENGTHS = (400, 17, 300, 1, 250, 56)
"""How many tokens the prompts have that are compared."""

Tokens = list[list[int]]


class Bench:
    """A program for random weights, the prompts, and what was found."""

    def __init__(self, config: LlamaConfig) -> None:
        import torch

        from benchmarks.torch_llama import draw_weights

        torch.backends.cuda.matmul.allow_tf32 = False
        self.config = config
        drawn = draw_weights(config)
        given = {name: w.to(torch.bfloat16).contiguous() if w.ndim == 2 else w for name, w in drawn.items()}
        self.rounded: Mapping[str, Any] = {name: w.float() if w.ndim == 2 else w for name, w in given.items()}
        self.target = CudaTarget(prove=False)
        graph = ragged_step_graph(config, CAPACITY, dtype=DType.BF16)
        self.program = forerun.compile(graph, self.target, "exact", weights=given, tuning=None)
        chooser = np.random.default_rng(1)
        self.prompts: Tokens = [chooser.integers(0, config.vocabulary, n).tolist() for n in LENGTHS]
        self.long = chooser.integers(0, config.vocabulary, CAPACITY.rows).tolist()
        self.metrics: dict[str, Metric] = {}
        self.failures: list[str] = []

    def logits(self, feeds: Sequence[Feed]) -> np.ndarray:
        """The logits of each request of a batch, in a copy."""
        outputs = self.program.run(batch_inputs(CAPACITY, feeds))
        self.require(int(outputs["answers"][0]) == len(feeds), f"{outputs['answers'][0]} answers to {len(feeds)}")
        found = np.array(outputs["logits"][: len(feeds)])
        self.require(bool((outputs["next_token"][: len(feeds)] == found.argmax(1)).all()), "next_token is not argmax")
        return found

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.failures.append(what)
            print(f"WRONG: {what}", flush=True)

    def poison(self) -> None:
        """NaN in all caches: nobody may read what no request has written."""
        for layer in range(self.config.layers):
            for name in ("k_cache", "v_cache"):
                shape = self.program.graph.buffers[f"blk.{layer}.{name}"].shape
                self.program.write(f"blk.{layer}.{name}", np.full(shape, 0x7FC0, np.uint16).view(_bf16()))


def _bf16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16


def _error(bench: Bench, tokens: list[int], logits: np.ndarray) -> float:
    """Relative L2 from f32 in PyTorch with the same weights."""
    import torch

    from benchmarks.torch_llama import prefill

    last = torch.tensor([len(tokens) - 1], device="cuda")
    expected = prefill(bench.config, bench.rounded, torch.tensor(tokens, device="cuda"), last)[0]
    difference = torch.from_numpy(logits).cuda() - expected
    return float(difference.norm() / expected.norm())


def check_values(bench: Bench) -> None:
    """A batch of prompts, and the long prompt, against PyTorch."""
    bench.poison()
    found = bench.logits([Feed(slot, prompt, 0) for slot, prompt in enumerate(bench.prompts)])
    errors = [_error(bench, prompt, row) for prompt, row in zip(bench.prompts, found, strict=True)]
    errors.append(_error(bench, bench.long, bench.logits([Feed(7, bench.long, 0)])[0]))
    print(f"relative L2 of the logits: {', '.join(f'{error:.4f}' for error in errors)}", flush=True)
    bench.require(max(errors) < 0.02, f"errors {errors}")
    bench.metrics["persistent.prompt_logits_rel_l2"] = Metric(max(errors), "ratio", min(errors), max(errors))


def check_bits(bench: Bench, steps: int = 6) -> None:
    """Each request of a batch against itself alone, in another slot, with other neighbours later on."""
    together = [[] for _ in bench.prompts]
    chosen: Tokens = [list(prompt) for prompt in bench.prompts]
    first = bench.logits([Feed(slot, prompt, 0) for slot, prompt in enumerate(bench.prompts)])
    for slot, row in enumerate(first):
        together[slot].append(row)
        chosen[slot].append(int(row.argmax()))
    for step in range(steps):
        # Every other step has a long prefill beside the decodes, so that their tiles are other ones.
        feeds = [Feed(slot, tokens[-1:], len(tokens) - 1) for slot, tokens in enumerate(chosen)]
        beside = [Feed(7, bench.long[:900], 0)] if step % 2 else []
        rows = bench.logits([*beside, *feeds])[len(beside) :]
        for slot, row in enumerate(rows):
            together[slot].append(row)
            chosen[slot].append(int(row.argmax()))
    differing = 0.0
    bench.poison()
    for slot, prompt in enumerate(bench.prompts):
        tokens = list(prompt)
        alone = [bench.logits([Feed(6 - slot, tokens, 0)])[0]]
        for choice in chosen[slot][len(prompt) : -1]:
            tokens.append(choice)
            alone.append(bench.logits([Feed(6 - slot, tokens[-1:], len(tokens) - 1)])[0])
        differing += sum(not np.array_equal(a, b) for a, b in zip(alone, together[slot], strict=True))
    count = len(bench.prompts) * (steps + 1)
    print(f"bits: {differing:.0f} of {count} logits differ from those alone", flush=True)
    bench.require(differing == 0, f"{differing:.0f} of {count} logits differ")
    bench.metrics["persistent.prompts_differing_bits"] = Metric(differing, "rows", differing, differing)


def times(bench: Bench, *, nodes: bool) -> None:
    """A prompt of 1,024 tokens in one step; decode of one and of eight requests at about 1,024 positions."""
    decodes = [Feed(slot, [slot + 1], 1023) for slot in range(CAPACITY.requests)]
    cases = {
        "persistent.prompt_1024_ms": [Feed(0, bench.long, 0)],
        "persistent.prompts_decode_1_ms": decodes[:1],
        "persistent.prompts_decode_8_ms": decodes,
        "persistent.prompt_128_ms": [Feed(0, bench.long[:128], 0)],
    }
    for slot in range(CAPACITY.requests):
        bench.logits([Feed(slot, bench.long, 0)])
    for name, feeds in cases.items():
        bench.logits(feeds)
        samples = [1e3 * seconds for seconds in step_samples(bench.program, 200)]
        bench.metrics[name] = bootstrap_median(samples, "ms")
        print(f"{name}: {bench.metrics[name]}", flush=True)
        if nodes:
            _print_nodes(bench, feeds)


def _print_nodes(bench: Bench, feeds: Sequence[Feed]) -> None:
    """Microseconds by kernel, and of the nodes of one layer."""
    inputs = batch_inputs(CAPACITY, feeds)
    timeline = timeline_of_step(bench.target, bench.program, inputs, lambda program: None)
    rows = node_rows(bench.program.graph, timeline, bench.program.read)
    print("  " + ", ".join(f"{row.kernel} {row.share / 1e3:.0f}" for row in by_kernel(rows)), flush=True)
    layer = [row for row in rows if row.label.startswith("blk.3.")]
    print("  " + ", ".join(f"{row.label[6:]} {row.share / 1e3:.1f}" for row in layer), flush=True)


def dry_run(config: LlamaConfig) -> None:
    """Compile what would run; the greatest number of registers, and what is spilled."""
    graph = PassManager("exact").run(ragged_step_graph(config, CAPACITY, dtype=DType.BF16)).graph
    found, _ = units(graph)
    for unit, cubin in zip(found, compile_units([unit.source for unit in found]), strict=True):
        facts = cubin.entries[unit.entry]
        print(f"{unit.entry}: {facts.registers} registers, {facts.spill_store_bytes} bytes spilled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = shape_named(options.shape)
    if options.dry_run:
        return dry_run(config)
    bench = Bench(config)
    with bench.program:
        check_values(bench)
        check_bits(bench)
        times(bench, nodes=options.nodes)
    if bench.failures:
        raise SystemExit(f"{len(bench.failures)} failures: {'; '.join(bench.failures[:3])}")
    details = {"shape": options.shape, "capacity": {"requests": 8, "rows": 1024, "context": 1280}}
    write_result("prompts", bench.metrics, *([options.out] if options.out else []), details=details)
    return None


if __name__ == "__main__":
    main()
