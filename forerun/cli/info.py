"""``forerun info``: versions, the GPU or why there is none, the toolchain, the folders."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import options
from forerun.cli.console import print_json, result_console
from forerun.cli.errors import Status, guarded
from forerun.support.version import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

    from forerun.runtime.toolchain.locate import Tool

__all__ = ["info"]

_PACKAGES = ("networkx", "numpy", "ml-dtypes", "gguf", "tokenizers", "typer", "rich", "hypothesis", "cuda-bindings")


@guarded
def info(
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure what the cost model needs to know of this GPU, and keep it.")
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Show versions, GPUs, the toolchain and folders."""
    facts = _facts()
    if calibrate:
        facts |= _calibrated()
    if as_json:
        print_json(facts)
        return Status.OK
    _print_facts(facts)
    return Status.OK


def _facts() -> dict[str, Any]:
    from forerun.passes.infra.registry import available
    from forerun.runtime import target_names
    from forerun.runtime.cache_folder import cache_folder
    from forerun.runtime.gpu import probe_gpus
    from forerun.runtime.toolchain import find_toolchain, missing_toolchain

    found = find_toolchain()
    tools = {"nvrtc": found.nvrtc, "ptxas": found.ptxas, "nvdisasm": found.nvdisasm}
    gpus, reason = probe_gpus()
    return {
        "forerun": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "packages": _versions(_PACKAGES),
        "gpus": [gpu.as_json() for gpu in gpus],
        "no_gpu_reason": reason,
        "toolchain": {name: None if tool is None else _tool(tool) for name, tool in tools.items()},
        "toolchain_problem": missing_toolchain(),
        "targets": list(target_names()),
        "passes": list(available()),
        "cache": str(cache_folder()),
    }


def _calibrated() -> dict[str, Any]:
    from forerun.runtime.cuda.target import CudaTarget
    from forerun.tuner.calibration import calibrate
    from forerun.tuner.gpus import keep_constants

    target = CudaTarget()
    gpu, _ = target.identity()
    constants = calibrate(target)
    return {"calibration": {"gpu": gpu, "file": str(keep_constants(gpu, constants)), **asdict(constants)}}


def _tool(tool: Tool) -> dict[str, str]:
    return {"version": ".".join(map(str, tool.version)), "path": str(tool.path)}


def _versions(names: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _print_facts(facts: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(facts):
        table.add_row(name, value)
    result_console().print(table)


def _rows(facts: Mapping[str, Any]) -> Iterable[tuple[str, RenderableType]]:
    yield "forerun", facts["forerun"]
    yield "python", f"{facts['python']} on {facts['system']}"
    yield "packages", _listed(facts["packages"])
    yield "gpu", "\n".join(map(_gpu, facts["gpus"])) or f"none: {facts['no_gpu_reason']}"
    yield "toolchain", _toolchain(facts["toolchain"], facts["toolchain_problem"])
    yield "targets", ", ".join(facts["targets"])
    yield "passes", ", ".join(facts["passes"])
    yield "cache", facts["cache"]
    if "calibration" in facts:
        yield "calibration", _calibration(facts["calibration"])


def _calibration(found: Mapping[str, Any]) -> str:
    boundaries = f"{found['full'] * 1e6:.2f} us a full dependency, {found['programmatic'] * 1e6:.2f} a programmatic one"
    return f"{found['bandwidth'] / 1e9:,.0f} GB/s, {boundaries}\n{found['file']}"


def _gpu(gpu: Mapping[str, Any]) -> str:
    gigabytes = gpu["memory"] / 2**30
    processors = f"{gpu['multiprocessors']} SMs, compute capability {gpu['compute_capability']}"
    return f"{gpu['name']}, {gigabytes:.0f} GiB, {processors}"


def _toolchain(tools: Mapping[str, Mapping[str, str] | None], problem: str | None) -> str:
    told = [f"{name} {tool['version']}" for name, tool in tools.items() if tool is not None]
    return "\n".join([", ".join(told), *([problem] if problem else [])]).strip()


def _listed(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {found or '(missing)'}" for name, found in versions.items())
