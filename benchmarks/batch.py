"""Steps for several sequences at once against a step for one: Llama-3.2-1B shapes, bf16, position 512, on one GPU.

The sequences have positions and KV rows of their own, and read the weights once. Before anything is timed, the choices
of all steps and the logits of the last one are compared, bit by bit, with those of each sequence alone, by the same
kernels; and those of one sequence with the graph of small kernels (relative L2). A batch of several tokens of a
sequence, as a speculation feeds them, is compared with these tokens one after the other.

The step for one is that of ``fast``, and of ``fast`` with the tuning that forerun finds by itself, timed in the same
process, in turns. Kernels are compiled before, for all graphs at once. Needs a GPU.

    python benchmarks/batch.py
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import Metric, bootstrap_median, bootstrap_median_ratio, write_result
from llama_step import Setting, in_turns, launching

import forerun
from forerun.frontends.batched_step import batched_decode_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.kernels.batched.sequences import Sequences
from forerun.measure.step import relative_l2
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget

STEPS = 4
CONTEXT = 1024
FIRST = 510
"""Position of the first step of the sequence in the middle; the others are up to 12 positions before or after it."""
SIZES = (1, 2, 4, 8)
SPECULATED = 4
TOLERANCE = 2e-3
"""Relative L2 of logits after some steps, between versions that sum in different orders."""


@dataclass(frozen=True)
class Sequence:
    """What a sequence is fed, and the KV rows that it has."""

    token: int
    position: int
    rows: dict[str, torch.Tensor]

    @classmethod
    def of(cls, setting: Setting, number: int) -> Sequence:
        """The first one has the rows of the setting."""
        config, generator = setting.config, torch.Generator("cuda").manual_seed(number)
        size = (CONTEXT, config.kv_heads, config.head_size)
        rows = (
            setting.rows
            if number == 0
            else {
                name: torch.randn(size, generator=generator, device="cuda").to(torch.bfloat16) for name in setting.rows
            }
        )
        return cls(11 + 1000 * number, FIRST + (0, 7, -12, 3, -5, 12, -8, 2)[number], rows)


Answers = tuple[np.ndarray, np.ndarray]
"""The choices of all steps, and the logits of the last one; by token of a step."""


def fill(executable: forerun.Executable, sequences: list[Sequence]) -> None:
    """Give each sequence its KV rows."""
    for number, sequence in enumerate(sequences):
        for name, rows in sequence.rows.items():
            torch.from_dlpack(executable.buffer(f"{name}{number}")).copy_(rows[:CONTEXT])
    torch.cuda.synchronize()


def inputs_of(sequences: list[Sequence]) -> dict[str, Any]:
    return {"token": [[s.token for s in sequences]], "position": [s.position for s in sequences]}


def answers(executable: forerun.Executable, sequences: list[Sequence]) -> Answers:
    fill(executable, sequences)
    found = executable.run(inputs_of(sequences))
    return found["next_token"].copy(), found["logits"].copy()


def graph_of(config: LlamaConfig, of: Sequences, steps: int = STEPS) -> forerun.Graph:
    """Steps as the passes leave them."""
    return PassManager("fast").run(batched_decode_graph(config, of, context=CONTEXT, steps=steps)).graph


def graphs_of(config: LlamaConfig) -> dict[str, forerun.Graph]:
    """Those of all sizes, and two of one step: several tokens of a sequence, and one."""
    graphs = {f"batch{size}": graph_of(config, Sequences(size)) for size in SIZES}
    graphs["speculated"] = graph_of(config, Sequences(1, SPECULATED), 1)
    return graphs | {"one": graph_of(config, Sequences(1), 1)}


def load(setting: Setting, graph: forerun.Graph) -> forerun.Executable:
    return setting.compile(graph, "")


def mismatches(found: Answers, alone: list[Answers]) -> int:
    """How many choices and logits of a batch differ in a bit from those of each sequence alone."""
    count = 0
    for number, (tokens, logits) in enumerate(alone):
        count += int(np.count_nonzero(found[0][:, number] != tokens[:, 0]))
        count += int(np.count_nonzero(found[1][number].view(np.uint32) != logits[0].view(np.uint32)))
    return count


def speculated_mismatches(
    setting: Setting, graphs: dict[str, forerun.Graph], sequence: Sequence, alone: Answers
) -> int:
    """The same for several tokens of one sequence in one step: those that it has chosen alone, one after the other."""
    fed = [sequence.token, *alone[0][: SPECULATED - 1, 0].tolist()]
    with load(setting, graphs["speculated"]) as together, load(setting, graphs["one"]) as one:
        fill(together, [sequence])
        found = together.run({"token": [fed], "position": [sequence.position]})["logits"].copy()
        fill(one, [sequence])
        rows = [
            one.run({"token": [[token]], "position": [sequence.position + number]})["logits"][0].copy()
            for number, token in enumerate(fed)
        ]
    return int(np.count_nonzero(found.view(np.uint32) != np.stack(rows).view(np.uint32)))


def error_of_one(setting: Setting, sequence: Sequence, alone: Answers) -> float:
    """Relative L2 between the kernels of a batch and the small ones, for the setting's sequence."""
    with setting.compile(setting.graph(STEPS, CONTEXT), "") as plain:
        setting.fill(plain)
        expected = plain.run({"token": [sequence.token], "position": [sequence.position]})
        error = relative_l2(alone[1][0], expected["logits"])
        assert np.array_equal(expected["next_token"], alone[0][:, 0]), "the small kernels choose other tokens"
    assert error < TOLERANCE, f"relative L2 error {error:.1e}"
    return error


@contextlib.contextmanager
def running(executable: forerun.Executable, stream: torch.cuda.Stream, inputs: dict[str, Any]) -> Iterator[Any]:
    """A function that enqueues a replay."""
    executable.run(inputs)
    yield lambda: executable.launch(stream)
    executable.synchronize()


def measure(setting: Setting, graphs: dict[str, forerun.Graph], rounds: int) -> dict[str, Metric]:
    """Check all sizes, and time them in turns with the step for one."""
    sequences = [Sequence.of(setting, number) for number in range(max(SIZES))]
    stream = torch.cuda.Stream()
    metrics: dict[str, Metric] = {}
    with contextlib.ExitStack() as stack:
        batches = {size: stack.enter_context(load(setting, graphs[f"batch{size}"])) for size in SIZES}
        alone = [answers(batches[1], [sequence]) for sequence in sequences]
        wrong = sum(mismatches(answers(batch, sequences[:size]), alone[:size]) for size, batch in batches.items())
        wrong += speculated_mismatches(setting, graphs, sequences[0], alone[0])
        metrics["batch.mismatches"] = _exact(wrong, "values")
        metrics["batch.step_logits_rel_l2"] = _exact(error_of_one(setting, sequences[0], alone[0]), "ratio")
        print(f"mismatches {wrong}, error {metrics['batch.step_logits_rel_l2'].value:.1e}", flush=True)
        assert wrong == 0, "a sequence has other values than alone: nothing was timed"
        runs: dict[str, Any] = {}
        for name, tuning in (("fast", None), ("tuned", "auto")):
            single = stack.enter_context(setting.compile(setting.graph(STEPS, CONTEXT), "fast", tuning=tuning))
            setting.fill(single)
            runs[name] = stack.enter_context(launching(single, stream, FIRST))
        for size, batch in batches.items():
            fill(batch, sequences[:size])
            runs[f"batch{size}"] = stack.enter_context(running(batch, stream, inputs_of(sequences[:size])))
        times = in_turns(runs, stream, rounds, 8)
    for name, found in times.items():
        metrics[f"{name}.step_us"] = bootstrap_median([us / STEPS for us in found], "us")
    for size in SIZES:
        for name, single in (("step_ratio", "fast"), ("step_ratio_to_tuned", "tuned")):
            metrics[f"batch{size}.{name}"] = bootstrap_median_ratio(times[f"batch{size}"], times[single])
    return metrics


def _exact(value: float, unit: str) -> Metric:
    return Metric(value, unit, value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    setting = Setting.of("llama-3.2-1b", CONTEXT)
    graphs = graphs_of(setting.config)
    CudaTarget().precompile(list(graphs.values()))
    write_result("batch", measure(setting, graphs, arguments.rounds))


if __name__ == "__main__":
    main()
