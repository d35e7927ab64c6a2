"""What ``external_zoo.py`` tells of all cases together: figures that have names, and the short table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from external_debug import metrics as debug_metrics
from external_debug import table as table_of_debug

__all__ = ["metrics", "summary"]

ENABLE_PDL = "torch, enable_pdl"
NAMED = {
    "chain": "external.gemv_chain.speedup",
    "llama": "external.transformers_compile.speedup",
    "llama_eager": "external.transformers_eager.speedup",
}
"""Figures with names of their own: of the first graph of a case, measured, over its own replay."""


def metrics(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figures of all cases together, and those that have names.

    What became of programs that are not proved themselves is counted apart: if they race, their own replays differ.
    """
    counted = "external.mismatches", "external.steps_compared"
    told: dict[str, float] = dict.fromkeys(counted, 0)
    for case in found.values():
        for name, counts in case.get("wrong", {}).items():
            program, _, variant = name.partition(": ")
            if not variant:
                continue
            is_proved = case.get("captures", {}).get(program, {}).get("verdict", "proved") == "proved"
            for key, number in zip(counted, (max(counts["bytes"], counts["results"]), counts["steps"]), strict=True):
                key = key if is_proved else f"{key}_of_unproved"
                told[key] = told.get(key, 0) + number
    identity = [one for case in found.values() for one in case.get("ptx", {}).values()]
    for name, key in (
        ("ptx.files", "texts"),
        ("ptx.printed_exactly", "printed_exactly"),
        ("ptx.sass_identical", "sass_identical"),
    ):
        told[f"external.{name}"] = sum(one[key] for one in identity)
    for name, case in found.items():
        speeds = [ratio for variant, ratio in case.get("ratios", {}).items() if variant.endswith(": measured")]
        if speeds:
            told[f"external.zoo.{name}.speedup"] = round(max(speeds), 4)
    eager = next(iter(found.get("llama_eager", {}).get("captures", {}).values()), None)
    if eager is not None:
        told |= {"capture.nodes": eager["nodes"], "capture.images_found": eager["images"]}
        told |= {"capture.kernels_opened": eager["opened"]}
        first, disassembly = eager["first_import_s"], eager["first_import_disassembly_s"]
        told |= {"capture.import_s": round(first - disassembly, 4), "capture.import_disassembly_s": disassembly}
        told |= {"capture.import_again_s": eager["import_s"]}
    for name, metric in NAMED.items():
        ratio = found.get(name, {}).get("ratios", {}).get(f"{found.get(name, {}).get('base')}: measured")
        if ratio is not None:
            told[metric] = round(ratio, 4)
    if "external.zoo.torch_llama.speedup" in told:
        told["external.torch_compile.speedup_over_enable_pdl"] = told["external.zoo.torch_llama.speedup"]
    enable_pdl = found.get("llama", {}).get("ratios", {}).get(ENABLE_PDL)
    if enable_pdl is not None:
        told["external.transformers_compile.speedup_of_enable_pdl"] = round(enable_pdl, 4)
    debugged = {name: one for case in found.values() for name, one in case.get("debug", {}).items()}
    return {**told, **debug_metrics(debugged)} if debugged else told


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The short table: what each case captured, what became of it, and what failed."""
    lines = []
    for name, case in found.items():
        lines.append(f"{name} ({case.get('ended_s', 0):.0f} s)")
        for program, about in case.get("captures", {}).items():
            lines.append(
                f"  {program}: {about['nodes']} nodes, {about['opened']} of {about['kernels']} kernels opened, edges "
                f"{about['edges']}, {about['verdict']}, strict {about['strict']}"
            )
            for variant, told in case.get("variants", {}).get(program, {}).items():
                lines.append(f"    {variant}: {told.get('edges', told.get('error', ''))!s:.160}")
        for kind, told in case.get("ptx", {}).items():
            lines.append(f"  PTX, {kind}: {told}")
        lines += [case["table"]] if "table" in case else []
        lines += [table_of_debug(case["debug"])] if "debug" in case else []
        lines += [f"  FAILED {error}" for error in case.get("errors", ())]
    return "\n".join(lines)
