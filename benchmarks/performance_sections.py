"""The sections of docs/performance.md: which result file, its title, and what its figures mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RESULTS", "SECTIONS", "Section"]

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Section:
    """A benchmark: its result file, a title, how it is run, what its numbers mean, and limits by metric.

    A text with figures in it is a function that takes them from the results.
    """

    name: str
    title: str
    text: str | Callable[[], str]
    limits: tuple[tuple[str, str], ...] = ()


def _values(name: str) -> dict[str, float]:
    """The metrics of a result file, by name without that of the file; none if it is not there."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    metrics = json.loads(path.read_text())["metrics"]
    return {key.removeprefix(f"{name}."): metric["value"] for key, metric in metrics.items()}


def _ablation() -> str:
    text = (
        "One decode step of Llama-3.2-1B shapes, 32 in a graph from position 496, a row a version. All rows are loaded "
        "in one process and timed in turns, in order and back, so that clocks that change change all; `full` is full "
        "dependencies, and speedups are over it. `hoist_nc` is `hoist` with weights loaded by `ld.global.nc`. "
    )
    tuning, rows = _values("tuning"), _values("ablation")
    if "tuned_us" in rows and "kept" in tuning:
        trials = sum(tuning[verdict] for verdict in ("kept", "undone", "refused"))
        text += (
            f"`tuned` is `rings` with the choices of `forerun tune` (in {tuning['seconds']:.0f} s, from those of an "
            f"earlier run: {trials:.0f} trials, {tuning['kept']:.0f} kept). "
        )
    if "hoist_us" in rows and "wait_trigger_us" in rows:
        loss = rows["hoist_us"] / rows["wait_trigger_us"] - 1
        text += (
            f"Hoisting without fusion {'loses' if loss > 0 else 'wins'} {abs(loss):.1%} against waits and triggers "
            "alone (`wait_trigger`). "
        ).replace("%", " %")
    return text + (
        "Controls: `control_off` is `full` compiled once more, and must show no gain. A chain whose kernels all hand "
        "over one buffer must be proved after the passes, and refuted at every hand-over with all phases ahead of the "
        "wait, and with no wait (1: it was). `python benchmarks/llama_step.py --ablation`"
    )


SECTIONS = (
    Section(
        "pipeline",
        "The compiler on large graphs",
        "The pipeline `exact` on synthetic decode graphs, with verification and certificates, and the import of the "
        "package. `python benchmarks/pipeline.py`",
        (
            ("pipeline.nodes_2000_s", "at most 1.0"),
            ("pipeline.nodes_20000_s", "at most 12"),
            ("certify.nodes_2000_s", "at most 0.3"),
            ("import_s", "at most 0.4"),
        ),
    ),
    Section(
        "plans",
        "Plans",
        "Updates of a plan of 2,000 nodes, the plan's own work alone (a target that does nothing): the same graph "
        "object, a graph that was built once more and is equal, one that differs in its number of nodes, edits of "
        "one scalar of 1 to 64 nodes, and an edit that changes which row of a cache a node writes (proved again). "
        "What a tenth of a million updates leaves in memory; wrong answers of eight threads on one cache; and the "
        "worst ratio of the cache's policy to the best of three strategies that decide nothing, on the simulated "
        "traces. `python -m benchmarks.plans`",
        (
            ("plans.same_object_us", "at most 5"),
            ("plans.rebuilt_equal_ms", "at most 0.8"),
            ("plans.different_ms", "at most 0.1"),
            ("plans.update_k1_us", "at most 20"),
            ("plans.incremental_ms", "at most 2"),
            ("plans.thread_errors", "0"),
            ("plans.worst_trace_ratio", "at most 1.03"),
        ),
    ),
    Section(
        "plans_gpu",
        "Plans on a GPU",
        "A chain of 2,000 normalizations. Updates of 1 to all nodes, with the driver's calls; a launch, a replay; "
        "making the CUDA graph and instantiating it; the whole-graph update of a child graph of 2,000 nodes; "
        "loading the graph again because a cluster changed; memory that 25,000 updates took. `cluster_after_update` "
        "is the cluster that a node runs with after `cuGraphExecUpdate` from 2 to 4: 2 if the driver keeps the old "
        "one. `python -m benchmarks.plans --gpu`",
    ),
    Section(
        "fold_params",
        "Launch parameters",
        "Unfused decode steps of three models with five copies a kernel: as they are over folded, and folded over "
        "written without copies; the worst of the three. Bits were compared. `python benchmarks/fold_params.py`",
        (
            ("fold_params.copies_after", "0"),
            ("fold_params.speedup", "at least 1.2"),
            ("fold_params.vs_written_without", "at most 1.01"),
        ),
    ),
    Section(
        "splits",
        "Host and device in one program",
        "Layers of gpt-oss-20b's shapes, by `cuda{splits=measured}`; the baseline is launched split by split, with a "
        "synchronization in between. `worst_ratio` is of six placements; the border is what a step takes beyond the "
        "device's nodes and the host's work, which is the shortest of all ways, for eight host layers; `link_share` of "
        "experts fetched after routing. `python -m benchmarks.splits`",
        (
            ("splits.worst_ratio", "at least 0.97"),
            ("splits.vs_critical_path", "at most 1.05"),
            ("splits.border_share", "at most 0.5"),
            ("splits.two_sequences_speedup", "at least 1.2"),
            ("splits.cpu_ratio", "at most 1.05"),
            ("splits.sustained", "at least 0.97"),
            ("splits.undo_ratio", "at most 1.01"),
            ("splits.link_share", "at least 0.8"),
            ("splits.dense_vs_resident", "at most 1.05"),
        ),
    ),
    Section(
        "device_updatable",
        "Device-updatable nodes",
        "A graph of 100 small kernels that kernels may update, and one without. "
        "`python -m benchmarks.device_updatable`",
    ),
    Section(
        "persistent",
        "Attention of ragged batches",
        "bf16, 28 query and 4 KV heads of 128, pages of 16; ten calls in a graph. `python -m benchmarks.persistent`",
    ),
    Section(
        "persistent_mixed",
        "Attention of ragged batches, as it is now",
        "28 query and 4 KV heads of 128, pages of 16, bf16: 2 prefills of 2,048 with 128 decodes at 2,048 (hybrid), "
        "the prefills alone, the decodes alone, decodes of 64 to 16,384 positions (skewed), and schedules alone. The "
        "balance is of many short decodes, by recorded times. Values were compared with f32, and bits between replays.",
        (
            ("persistent.hybrid.us", "at most 240"),
            ("persistent.prefill_us", "at most 172"),
            ("persistent.schedule_us.128", "at most 6"),
            ("persistent.schedule_us.1024", "at most 10"),
            ("persistent.balance", "at most 1.05"),
        ),
    ),
    Section(
        "read_share",
        "Decode steps without tuning, as a share of read bandwidth",
        "bf16, batch 1, default launches. Bytes are those of weights and KV rows; read bandwidth is of the same run. "
        "The error is that of the logits against f32 (relative L2). `python benchmarks/read_share.py`",
        (
            ("llama-3.2-1b.pos160.step_us", "at most 650"),
            ("llama-3.2-1b.pos512.step_us", "at most 655"),
            ("llama-3.2-1b.pos2048.step_us", "at most 690"),
            ("llama-3.2-1b.pos8192.share", "at least 0.82"),
            ("llama-3.2-1b.pos32768.share", "at least 0.85"),
            ("llama-3.2-3b.pos512.share", "at least 0.86"),
        ),
    ),
    Section(
        "prompts",
        "Steps of a model for ragged batches",
        "Llama-3.2-1B shapes, random weights, bf16; a graph for 8 requests and 1,024 rows. A step with a prompt of "
        "1,024 or 128 tokens, and with decodes at 1,024 positions. The largest relative L2 error of the logits of "
        "seven prompts against f32 in PyTorch (low: the smallest), and how many of 42 logits differ in a bit from "
        "those that the request gets alone. `python -m benchmarks.prompts`",
        (
            ("persistent.prompt_1024_ms", "at most 20"),
            ("persistent.prompts_differing_bits", "0"),
        ),
    ),
    Section(
        "batch",
        "Several sequences a step",
        "Llama-3.2-1B shapes, random weights, bf16; decode steps of 1, 2, 4 and 8 sequences about position 512, each "
        "with KV rows of its own, four steps in a graph. How many choices and logits differ in a bit from those that a "
        "sequence gets alone, and the time of a step over that of one sequence by `fast`, and by `fast` with its "
        "tuning, timed in turns. `python benchmarks/batch.py`",
        (
            ("batch.mismatches", "0"),
            ("batch4.step_ratio", "at most 1.12"),
            ("batch8.step_ratio", "at most 1.25"),
        ),
    ),
    Section(
        "schedules",
        "Balance of schedules",
        "The busiest CTA over the mean of 132, in modelled cost; no time was measured. Batches, rules of cuts and "
        "policies: [ragged batches](schedules.md). The median of eight orders of the requests, the best and the worst. "
        "`python -m benchmarks.schedules`",
        tuple(
            (f"{batch}.{chosen}", "at most 1.05")
            for batch in ("decode", "log_uniform", "prefill_and_decode")
            for chosen in ("shares.prefix_sums", "chunks.longest_first", "invariant.longest_first")
        ),
    ),
    Section(
        "checker",
        "The checker",
        "Graphs with five accesses a node. `python benchmarks/checker.py`",
        (
            ("checker.nodes_1000_ms", "at most 50"),
            ("checker.nodes_10000_s", "at most 1"),
        ),
    ),
    Section(
        "smollm2_reference",
        "SmolLM2 on the reference target",
        "Against a plain NumPy loop, in turn at each position, same tokens. `python benchmarks/smollm2_reference.py`",
        (("reference.smollm2_vs_numpy", "at most 1.3"),),
    ),
    Section(
        "smollm2_cuda",
        "SmolLM2 on a GPU: values",
        "Teacher-forced over 20 windows of 64 tokens, against the f32 reference target; f16 matrices, as `forerun run` "
        "takes them, then f32 and bf16. The largest relative L2 error of a step's logits (low: the smallest); a clear "
        "choice is one where the reference's two best differ by more than twice the step's largest error. "
        "`python benchmarks/smollm2_cuda.py`",
        (("smollm2.logits_rel_l2", "at most 0.02"), ("smollm2.argmax_agreement", "at least 0.98")),
    ),
    Section(
        "llama_cuda",
        "Llama-3.2-1B shapes on a GPU: values",
        "Random weights (normal, 0.02), positions 0, 160, 511 and 2,047, against an f32 PyTorch model on the same bf16 "
        "weights, and on the weights before they were rounded. The largest relative L2 error (low: the smallest). "
        "`python benchmarks/llama_cuda.py`",
        (("llama_1b.logits_rel_l2", "at most 0.035"),),
    ),
    Section(
        "identity",
        "Random graphs: bit-identical after the passes",
        "Random graphs with pseudo-random delays in every kernel: the rewritten graph against the unrewritten one and "
        "the reference target, outputs and state. Planted faults (an edge or a wait removed) are the negative control. "
        "`python -m benchmarks.identity`",
        (("identity.graphs", "at least 2,000"), ("identity.mismatches", "0")),
    ),
    Section(
        "identity_decode",
        "Decode steps: bit-identical after the passes",
        "SmolLM2's shapes, random weights and tokens; logits and choice after every step, KV rows at the end; then "
        "with delays in every kernel. `python benchmarks/identity_decode.py`",
        (("identity.decode_steps", "10,000"), ("identity.decode_mismatches", "0")),
    ),
    Section(
        "cuda_runtime",
        "The CUDA runtime",
        "Emitting a decode graph of 2,000 nodes (the driver's instantiate apart), the cost of a launch over a bare "
        "`cuGraphLaunch`, and memory after many replays and programs. `python benchmarks/cuda_runtime.py`",
        (
            ("emit.nodes_2000_ms", "at most 30"),
            ("launch.overhead_us", "at most 2"),
            ("soak.launches", "100,000"),
            ("soak.cycles", "1,000"),
            ("soak.growth_bytes", "0"),
        ),
    ),
    Section(
        "cost_model_noted_h200",
        "What each pass brings on an H200",
        "As [below for an H100](#what-each-pass-brings): one decode step, 32 in a graph; then steps of other models by "
        "`fast`, and 128 steps of SmolLM2's shapes that loop on the device, for one of them.",
    ),
    Section(
        "llama_step_h200",
        "Llama-3.2-1B decode step on an H200",
        "As [below for an H100](#llama-32-1b-decode-step), before default launches changed (the untuned times of now "
        "are in [their section](#decode-steps-without-tuning-as-a-share-of-read-bandwidth)).",
    ),
    Section(
        "default_run",
        "What the plain command takes on an H200",
        "`forerun run llama --shape llama-3.2-1b --random-weights --target cuda`, which finds a tuning by itself, and "
        "the same graph with the file of this tuning named. `python benchmarks/default_run.py`",
    ),
    Section(
        "llama_step",
        "Llama-3.2-1B decode step",
        "A full step, embedding to argmax, bf16, batch 1; 32 steps in one graph, from positions 144, 496 and 2,032; "
        "against the same graph of fused kernels with full edges, nothing hoisted (its kernels load a few KB a warp at "
        "a time, as before a wait, which costs time there: it was 1,050 us at `pos512` in the run before they did). "
        "`tuned_`: with the choices of `forerun tune`, made at position 511 of 1,024, and at 2,047 of 2,304, where "
        "those for q, k and v do not apply. "
        "`python benchmarks/llama_step.py --tuning FILE`",
        (
            ("llama_1b.step_us.pos160", "at most 955"),
            ("llama_1b.step_us.pos512", "at most 975"),
            ("llama_1b.step_us.pos2048", "at most 1,030"),
            ("llama_1b.speedup_vs_full_edges", "at least 1.10"),
            ("llama_1b.tuned_step_us.pos160", "aim: at most 870"),
            ("llama_1b.tuned_step_us.pos512", "aim: at most 890"),
            ("llama_1b.tuned_step_us.pos2048", "aim: at most 930"),
            ("llama_1b.tuned_speedup_vs_full_edges", "aim: at least 1.15"),
        ),
    ),
    Section(
        "llama_torch",
        "Llama-3.2-1B decode step against torch.compile",
        "One step in a graph at position 511, against `torch.compile` (coordinate descent, PDL in Triton) in a CUDA "
        "graph. `tuned_`: as above. `python benchmarks/llama_step.py --tuning FILE`",
        (
            ("llama_1b.speedup_vs_torch_compile", "at least 1.25"),
            ("llama_1b.tuned_speedup_vs_torch_compile", "aim: at least 1.40"),
        ),
    ),
    Section(
        "models",
        "Other models",
        "Against `torch.compile` (coordinate descent, PDL) in a CUDA graph, and against the same graph without passes. "
        "`python benchmarks/models.py`",
        (("qwen2_5_0_5b.speedup_vs_torch_compile", "at least 1.30"), ("smollm2.speedup_vs_no_passes", "at least 1.3")),
    ),
    Section(
        "ablation",
        "What each pass brings",
        _ablation,
        (
            ("ablation.control_chain_proved", "1"),
            ("ablation.control_chain_all_hoisted_refuted", "1"),
            ("ablation.control_chain_no_wait_refuted", "1"),
            ("ablation.control_chain_refuted", "1"),
            ("ablation.control_off_speedup", "1.00"),
        ),
    ),
    Section(
        "tuning",
        "Tuning",
        "What `forerun tune` wins on two decode steps of Llama-3.2-1B shapes at position 511 of 1,024, in microseconds "
        "a step, and what it did within a budget of 45 s, from the choices of an earlier run (`finished`: 1 if "
        "everything was tried); and then at position 2,047 of 2,304, in 15 s. Single figures, medians of the tuner's "
        "own pairs; `tuned_step_us` and `ablation.tuned_us` above are independent of them. "
        "`python benchmarks/llama_step.py --tune 45 --tuning FILE --all`",
        (("tuning.speedup", "at least 1"), ("tuning_pos2048.speedup", "at least 1")),
    ),
    Section(
        "cost_model",
        "The cost model",
        "What `forerun.tuner.cost_model` estimates, without a GPU, over recorded times, less 1: below 0 is too little. "
        "Medians are of absolute errors. `test` and `changed`: graphs of an H200 that no constant was fitted to, whose "
        "kernels are the same machine code as when they were timed, or the same in launches and phases; these two are "
        "in `cost_model.median_error`, the first alone in `same_code`. `fitted`: what constants come from. `replaced`: "
        "the kernels now are others. `h100`: all of an H100, to some of which constants were fitted. "
        "[Tuning](tuning.md#without-a-gpu) has the constants, and what the model does not see. "
        "`python benchmarks/cost_model.py`",
        (("cost_model.median_error", "at most 0.10"), ("cost_model.worst_error", "at most 0.25")),
    ),
)
