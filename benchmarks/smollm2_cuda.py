"""SmolLM2 on a GPU against the f32 reference target, teacher-forced: logits and choices.

Each prompt's tokens are fed whatever the model would choose. A step's choice must be the reference's wherever the
reference's two best logits differ by more than twice the step's largest absolute error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from common import Metric, bootstrap_median, write_result

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaModel
from forerun.ir.types import DType

ROOT = Path(__file__).resolve().parent.parent


def prompts(model: LlamaModel, count: int, length: int) -> list[list[int]]:
    """Windows of that many tokens from the project's own documents."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    tokens = model.tokenizer.encode(text)
    starts = np.linspace(0, len(tokens) - length, count).astype(int)
    return [tokens[start : start + length] for start in starts]


def logits(path: Path, target: str, dtype: DType, options: dict[str, int], prompt: list[int]) -> np.ndarray:
    """Logits (steps, vocabulary) of a prompt."""
    model = LlamaModel.open(path)
    graph = decode_graph(model.config, context=len(prompt), dtype=dtype, **options)
    with forerun.compile(graph, target, "exact", weights=model.weights_as(dtype)) as executable:
        return feed(executable, prompt)


def feed(executable: forerun.Executable, prompt: list[int]) -> np.ndarray:
    steps = enumerate(prompt)
    return np.stack([executable.run({"token": [token], "position": [at]})["logits"] for at, token in steps])


@dataclass
class Tally:
    """What was counted over all steps."""

    errors: list[float] = field(default_factory=list)
    agree: int = 0
    clear: int = 0
    missed: int = 0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        self.errors += (np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).tolist()
        same = found.argmax(1) == wanted.argmax(1)
        best = np.partition(wanted, -2, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * np.abs(found - wanted).max(1)
        self.agree += int(same.sum())
        self.clear += int(clear.sum())
        self.missed += int((clear & ~same).sum())

    def metrics(self, suffix: str) -> dict[str, Metric]:
        share = self.agree / len(self.errors)
        return {
            f"smollm2.logits_rel_l2{suffix}": Metric(max(self.errors), "ratio", min(self.errors), max(self.errors)),
            f"smollm2.logits_rel_l2_median{suffix}": bootstrap_median(self.errors, "ratio"),
            f"smollm2.argmax_agreement{suffix}": Metric(share, "ratio", share, share),
            f"smollm2.clear_choices_missed{suffix}": Metric(self.missed, "steps", self.missed, self.missed),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--dtypes", default="f16,f32,bf16", help="types of the matrices; the first is what users get")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=8, help="processes for the reference")
    options = parser.parse_args()
    model = LlamaModel.open(options.model)
    texts = prompts(model, options.prompts, options.length)
    reference = partial(logits, options.model, "reference", DType.F32, {})
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the processes are spawned: they load NumPy again
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        expected = list(pool.map(reference, texts))
    metrics: dict[str, Metric] = {}
    for number, name in enumerate(options.dtypes.split(",")):
        dtype, tally = DType[name.upper()], Tally()
        graph = decode_graph(model.config, context=options.length, dtype=dtype, splits=32, argmax_parts=128)
        with forerun.compile(graph, options.target, "exact", weights=model.weights_as(dtype)) as executable:
            for text, wanted in zip(texts, expected, strict=True):
                tally.add(feed(executable, text), wanted)
        print(f"{name}: {len(tally.errors)} steps, {tally.clear} with a clear choice, {tally.missed} of these missed")
        metrics |= tally.metrics(f"_{name}" if number else "")
    write_result("smollm2_cuda", metrics)
    return int(any("missed" in name and metric.value for name, metric in metrics.items()))


if __name__ == "__main__":
    raise SystemExit(main())
