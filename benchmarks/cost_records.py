"""Graphs whose times were recorded, for ``cost_model.py``: how each is built again, and what may be said of it.

A record is a dictionary: ``name``, ``seconds`` of one replay, ``inputs`` (what regions depend on, such as
{"position": [160]}), ``gpu``, ``file`` (its result file), ``group``, and the graph as it ran: ``graph`` (a .fir file,
such as the last one of a dump), or ``shape``, ``context`` and ``pipeline`` of a decode step in bf16 (``loop``: of a
generation loop, a token; ``tuning``: with the choices of that file; ``sequences``: of a step for several sequences;
``packing``: with weights in blocks), or ``chain``, ``norms`` or ``parameters`` of other benchmarks and ``pipeline``.

Groups of an H200's records:

- ``fitted``: the constants of :data:`forerun.tuner.gpus.H200` that the calibration does not measure come from these.
- ``test``: nothing was fitted to them, and the machine code of their kernels is the same as when they were recorded.
- ``changed``: nothing was fitted to them; since they were recorded the machine code of their streamed kernels has
  changed, but neither launches nor phases have, so the graph that the model sees is the one that was timed.
- ``replaced``: their launches have changed, too. What is estimated is another graph than what was timed.

To tell, the kernels of one layer were compiled for sm_90a from each result's commit and from that of 2026-11-30, and
their text sections and launches were compared. Records of attention alone, of ragged steps (their kernels have changed)
and of captured graphs are left out: no graph in this repository says what they read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fold_params
from controls import scratch_chain
from rows import ABLATION, FULL_EDGES, tuning_for

from forerun.frontends.batched_step import batched_decode_graph
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama_config import LlamaConfig, shape_named, weight_shapes
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph
from forerun.ir.types import DType
from forerun.kernels import norm_head, rmsnorm
from forerun.kernels.batched.sequences import Sequences
from forerun.kernels.packing import PACKINGS
from forerun.passes.apply_tuning import ApplyTuning
from forerun.passes.infra.known_tunings import SHIPPED
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline

__all__ = ["GPU", "RESULTS", "TIMED", "graph_of", "recorded", "recorded_h200", "step_of"]

RESULTS = Path(__file__).parent / "results"
GPU = "NVIDIA H100 80GB HBM3"
"""What records are of that do not name their GPU."""
_H200 = "NVIDIA H200"
_TUNINGS = {GPU: SHIPPED / "nvidia-h100-llama-3.2-1b.json", _H200: SHIPPED / "nvidia-h200-llama-3.2-1b.json"}
"""The choices with which the rows ``tuned`` were measured."""
_MORE_SHAPES = {
    "llama-3.2-3b": LlamaConfig("llama_3_2_3b", 28, 3072, 24, 8, 128, 8192, 128256, 131072, rope_base=500000.0)
}
_PLACES = (("pos160", 160, 1024), ("pos512", 511, 1024), ("pos2048", 2047, 2304))
TIMED = {name: pipeline for name, pipeline in ABLATION.items() if name != "hoist_nc"}
_Row = tuple[str, str, Mapping[str, Any], str, int]


# Graphs


def _config(shape: str) -> LlamaConfig:
    return _MORE_SHAPES[shape] if shape in _MORE_SHAPES else shape_named(shape)


def step_of(shape: str, context: int, packing: str = "") -> Graph:
    """A decode step as the benchmarks build it; with a packing, all matrices are in its blocks."""
    config = _config(shape)
    packings = {name: PACKINGS[packing] for name, size in weight_shapes(config) if packing and len(size) == 2}
    return decode_graph(
        config,
        context=context,
        dtype=DType.BF16,
        cache_dtype=DType.BF16,
        splits=max(1, 128 // config.kv_heads),
        argmax_parts=norm_head.PARTS,
        packings=packings,
    )


def _loop_of(shape: str, context: int, limit: int) -> Graph:
    """A generation loop as ``models.py`` builds it."""
    return generation_graph(
        shape_named(shape),
        limit=limit,
        eot=-1,
        context=context,
        dtype=DType.BF16,
        cache_dtype=DType.BF16,
        splits=32,
        argmax_parts=norm_head.PARTS,
    )


def _norms(count: int) -> Graph:
    """A chain of small normalizations as ``plans.py`` builds it."""
    builder, launch = GraphBuilder("norms"), rmsnorm.launch_for(128)
    x, w, y = builder.input("x", "f32", 128), builder.weight("w", "f32", 128), builder.output("y", "f32", 128)
    temps = [builder.temp(f"t{i}", "f32", 128) for i in range(2)]
    names = [x, *(temps[i % 2] for i in range(count - 1)), y]
    for i in range(count):
        builder.launch(rmsnorm, x=names[i], w=w, y=names[i + 1], eps=1e-5, node=f"n{i}", launch=launch)
    return builder.build()


def graph_of(record: Mapping[str, Any]) -> Graph:
    """The graph that was measured."""
    if "graph" in record:
        return parse_graph(Path(record["graph"]).read_text(encoding="utf-8"), record["graph"])
    passes = Pipeline.parse(record["pipeline"])
    if "tuning" in record:
        passes = Pipeline((*passes, ApplyTuning(record["tuning"])))
    return PassManager(passes).run(_start(record)).graph


def _start(record: Mapping[str, Any]) -> Graph:
    """The same before the passes."""
    if "chain" in record:
        return scratch_chain(record["chain"])
    if "norms" in record:
        return _norms(record["norms"])
    if "parameters" in record:
        return fold_params.step_of(shape_named(record["parameters"]), uploads=record["uploads"])
    shape, context = record["shape"], record["context"]
    if "loop" in record:
        return _loop_of(shape, context, record["loop"])
    if "sequences" in record:
        return batched_decode_graph(_config(shape), Sequences(record["sequences"]), context=context)
    return step_of(shape, context, record.get("packing", ""))


# An H100


def recorded(results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Records of an H100 from the result files of other benchmarks, as far as they are there."""
    llama = {"shape": "llama-3.2-1b", "context": 1024}
    tuned = _tuned(GPU, 1024)
    rows: list[_Row] = [
        *(("ablation", f"{row}_us", llama, pipeline, 511) for row, pipeline in TIMED.items()),
        ("ablation", "tuned_us", tuned, ABLATION["rings"], 511),
        *_steps("llama_step", GPU),
        ("llama_torch", "one_step_us", llama, "fast", 511),
        ("llama_torch", "tuned_one_step_us", tuned, "fast", 511),
        ("tuning", "untuned_us", llama, "fast", 511),
        ("tuning", "tuned_us", tuned, "fast", 511),
        ("models", "qwen2_5_0_5b.one_step_us", {"shape": "qwen2.5-0.5b", "context": 1024}, "fast", 511),
    ]
    for row in rows:
        yield from _found(results, row, GPU, "")
    loop = {"shape": "smollm2-135m", "context": 512, "loop": 128}
    for name, pipeline in (("", "fast"), ("_no_passes", "")):
        rate = _values(results, "models").get(f"smollm2.tokens_per_second{name}", 0.0)
        if rate:
            yield _record("models", f"smollm2{name}", 1e6 / rate, loop, pipeline, 128) | {"gpu": GPU}


def _steps(file: str, gpu: str) -> Iterator[_Row]:
    """What ``llama_step.py`` measures at three positions."""
    for place, position, context in _PLACES:
        here = {"shape": "llama-3.2-1b", "context": context}
        yield file, f"step_us.{place}", here, "fast", position
        yield file, f"tuned_step_us.{place}", _tuned(gpu, context), "fast", position
        yield file, f"full_edges_us.{place}", here, FULL_EDGES, position


# An H200


def recorded_h200(results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Records of an H200, as far as their files are there."""
    found = partial(_found, results, gpu=_H200)
    llama = {"shape": "llama-3.2-1b", "context": 1024}
    tuned = _tuned(_H200, 1024)
    for row in _steps("llama_step_h200", _H200):
        yield from found(row, group="changed")
    for name in ("cli.default_us", "cli.tuned_us"):
        yield from found(("default_run", name, tuned, "fast", 511), group="changed")
    yield from found(("batch", "fast.step_us", llama, "fast", 511), group="changed")
    yield from found(("batch", "tuned.step_us", tuned, "fast", 511), group="changed")
    for count in (1, 2, 4, 8):
        row = ("batch", f"batch{count}.step_us", {**llama, "sequences": count}, "fast", 511)
        for record in found(row, group="test"):
            yield record | {"inputs": {"position": [511] * count}}
    for name, packing, pipeline in (
        ("q8_0_us", "Q8_0", "fast"),
        ("q4_k_us", "Q4_K", "fast"),
        ("q4_k_full_edges_us", "Q4_K", FULL_EDGES),
        ("q4_k_hoist_lost_us", "Q4_K", ABLATION["fused"]),
    ):
        yield from found(("quantised", name, {**llama, "packing": packing}, pipeline, 496), group="replaced")
    yield from found(("plans_gpu", "plans.gpu_replay_us", {"norms": 2000}, "", 0), group="test")
    yield from _folded(results)
    yield from _noted(results)


def _folded(results: Path) -> Iterator[dict[str, Any]]:
    """Steps of ``fold_params.py``: with copies of parameters, folded, and written without copies."""
    path = results / "fold_params.json"
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []
    for model in models:
        group = "fitted" if model["model"] == "smollm2-135m" else "test"
        ways = (("copies", True, ""), ("folded", True, "fold-params"), ("without", False, ""))
        for us, (name, uploads, pipeline) in zip(model["us"], ways, strict=True):
            what = {"parameters": model["model"], "uploads": uploads}
            record = _record("fold_params", f"{model['model']}.{name}", us, what, pipeline, 0)
            yield {**record, "inputs": {}, "gpu": _H200, "group": group}


def _noted(results: Path) -> Iterator[dict[str, Any]]:
    """What was noted of a run whose result files were not kept."""
    file = "cost_model_noted_h200"
    path = results / f"{file}.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"records": []}
    for record in said["records"]:
        yield {**record, "name": f"{file}.{record['name']}", "file": file, "gpu": said["gpu"]}


# Result files


def _found(results: Path, row: _Row, gpu: str, group: str) -> Iterator[dict[str, Any]]:
    """The record of a metric of a file, if it is there."""
    file, metric, what, pipeline, position = row
    values = _values(results, file)
    us = next((values[key] for key in (f"{file}.{metric}", f"llama_1b.{metric}", metric) if key in values), 0.0)
    if us:
        yield {**_record(file, metric, us, what, pipeline, position), "gpu": gpu, **({"group": group} if group else {})}


def _tuned(gpu: str, context: int) -> dict[str, Any]:
    return {"shape": "llama-3.2-1b", "context": context, "tuning": str(tuning_for(_TUNINGS[gpu], context))}


def _values(results: Path, file: str) -> dict[str, float]:
    path = results / f"{file}.json"
    if not path.exists():
        return {}
    return {key: metric["value"] for key, metric in json.loads(path.read_text(encoding="utf-8"))["metrics"].items()}


def _record(file: str, metric: str, us: float, what: Mapping[str, Any], pipeline: str, position: int) -> dict[str, Any]:
    return {
        "name": f"{file}.{metric.removesuffix('_us')}",
        "file": file,
        **what,
        "pipeline": pipeline,
        "inputs": {"position": [position], "token": [11]},
        "seconds": us / 1e6,
    }
