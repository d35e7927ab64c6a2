"""SmolLM2 on a GPU against the f32 reference target, teacher-forced: logits and choices.

Each prompt's tokens are fed whatever the model would choose. A step's choice must be the reference's wherever the
reference's two best logits differ by more than twice the step's largest absolute error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from common import Metric, write_result

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
    with forerun.compile(graph, target=target, weights=model.weights_as(dtype)) as executable:
        return feed(executable, prompt)


def feed(executable: forerun.Executable, prompt: list[int]) -> np.ndarray:
    steps = enumerate(prompt)
    return np.stack([executable.run({"token": [token], "position": [at]})["logits"] for at, token in steps])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=8, help="processes for the reference")
    options = parser.parse_args()
    dtype = DType[options.dtype.upper()]
    model = LlamaModel.open(options.model)
    texts = prompts(model, options.prompts, options.length)
    reference = partial(logits, options.model, "reference", DType.F32, {})
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the processes are spawned: they load NumPy anew
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        expected = list(pool.map(reference, texts))
    graph = decode_graph(model.config, context=options.length, dtype=dtype, splits=32, argmax_parts=128)
    errors, agree, owed, missed = [], 0, 0, 0
    with forerun.compile(graph, target=options.target, weights=model.weights_as(dtype)) as executable:
        for text, wanted in zip(texts, expected, strict=True):
            found = feed(executable, text)
            errors += (np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).tolist()
            same = found.argmax(1) == wanted.argmax(1)
            best = np.partition(wanted, -2, axis=1)
            clear = best[:, -1] - best[:, -2] > 2 * np.abs(found - wanted).max(1)
            agree, owed, missed = agree + same.sum(), owed + clear.sum(), missed + (clear & ~same).sum()
    share = agree / len(errors)
    print(f"{len(errors)} steps; {owed} with a clear choice, {missed} of these missed")
    metrics = {
        "smollm2.logits_rel_l2": Metric(max(errors), "ratio", min(errors), max(errors)),
        "smollm2.argmax_agreement": Metric(float(share), "ratio", float(share), float(share)),
        "smollm2.clear_choices_missed": Metric(int(missed), "steps", int(missed), int(missed)),
    }
    write_result(f"smollm2_cuda_{options.dtype}" if options.dtype != "bf16" else "smollm2_cuda", metrics)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
