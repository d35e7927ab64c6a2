"""Programs that know nothing of forerun: what they capture, the verdict on it, and what optimize makes of it.

Each case runs in a process of its own, because images are seen from the start of CUDA on. All cases compile and capture
side by side; then one after the other has the GPU alone, for its measurements. A case that fails or hangs ends alone.

    python benchmarks/external_zoo.py                        # all
    python benchmarks/external_zoo.py products vit --output FILE

FlashInfer's modules are built ahead (``flashinfer_build.py``), and lie in ``benchmarks/.flashinfer`` or where
``FORERUN_FLASHINFER`` says; ``apache-tvm-ffi`` loads them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin
from external_code import sass_identity
from external_common import (
    OWN,
    VARIANTS,
    Program,
    about_capture,
    compared,
    locked,
    optimized,
    ratios,
    timed,
)
from external_common import table as table_of
from external_figures import metrics, summary

import forerun

__all__ = ["CASES", "Plan", "main", "run_all"]

CASES = {
    "chain": "external_chain:gemv_chain",
    "llama": "external_models:llama_compiled",
    "llama_without_cudnn": "external_models:llama_without_cudnn",
    "llama_plain": "external_models:llama_plain",
    "llama_eager": "external_models:llama_eager",
    "flashinfer": "external_kernels:attention_layers",
    "products": "external_kernels:matrix_products",
    "products_of_maps": "external_kernels:matrix_products_of_maps",
    "fields": "external_kernels:coupled_fields",
    "small_llama": "external_models:small_llama",
    "vit": "external_models:vision",
    "encoder": "external_models:encoder",
    "torch_llama": "external_models:torch_llama",
}
"""The module and the function of each case."""


# One case, in its own process


@dataclass(frozen=True)
class Plan:
    """How cases are run.

    Attributes:
        steps: Compared steps of each program.
        search_s: Seconds in which what pays is measured, for each program.
        limit_s: Seconds after which a case is stopped.
        debug_s: Seconds for which planted faults run; with 0 nothing is debugged.
        save: A folder for what was captured.
        caches: A folder in which what Inductor and Triton compile is kept for the next run.
        texts: How many texts of Triton's cache are assembled twice, in a case, besides those of its kernels.
    """

    steps: int = 25
    search_s: float = 8.0
    limit_s: float = 270.0
    debug_s: float = 0.0
    save: Path | None = None
    caches: Path | None = None
    texts: int = 150


@dataclass
class _Case:
    name: str
    plan: Plan
    lock: Path | None
    output: Path | None
    result: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """What is known so far: a case that is stopped loses nothing."""
        if self.output is not None:
            self.output.write_text(json.dumps(self.result, indent=1, default=str) + "\n")

    def tried(self, what: str, work: Callable[[], Any]) -> Any:
        """The result of a part; one that fails is told, and the rest goes on."""
        begin = time.perf_counter()
        try:
            return work()
        except Exception as error:
            traceback.print_exc()
            self.result.setdefault("errors", []).append(f"{what}: {type(error).__name__}: {str(error)[:1000]}")
            return None
        finally:
            self.result.setdefault("seconds", {})[what] = round(time.perf_counter() - begin, 1)
            self.write()

    def run(self) -> None:
        """All of it."""
        module, _, function = CASES[self.name].partition(":")
        with forerun.capture() as session:
            with locked(self.lock, alone=False):
                programs: list[Program] = []
                source = import_module(module)
                self.tried("capture", lambda: programs.extend(self._each(getattr(source, function)(session), programs)))
                for one in programs:
                    self.tried(f"{one.name}: verdict", lambda one=one: self._judge(one))
                self.tried("machine code", lambda: self._identity(programs))
                quick = [name for name, pipeline in VARIANTS.items() if pipeline is not None]
                made = {
                    one.name: self.tried(f"{one.name}: passes", lambda one=one: optimized(one, 0, quick))
                    for one in programs
                    if one.rewritten
                }
            with locked(self.lock, alone=True):
                self._measure(programs, made)

    def _each(self, programs: Iterator[Program], before: Sequence[Program]) -> Iterator[Program]:
        """The programs of a case as they are captured."""
        begin = time.perf_counter()
        for one in programs:
            assert all(one.name != other.name for other in before)
            print(f"captured: {one.name}, {time.perf_counter() - begin:.1f} s after the begin", flush=True)
            if self.plan.save is not None:
                name = "".join(letter if letter.isalnum() else "_" for letter in f"{self.name} {one.name}")
                one.live.save(self.plan.save / name)
            yield one

    def _judge(self, one: Program) -> None:
        about = about_capture(one.live)
        self.result.setdefault("captures", {})[one.name] = about
        print(f"  {one.name}: {one.live.graph}; {about}", flush=True)

    def _identity(self, programs: Sequence[Program]) -> None:
        texts = {}
        assembler = ("", "")
        for one in programs:
            for digest, text in one.live.graph.texts.items():
                assembler = one.live.assemblers[digest]
                texts[digest] = (text.text, text.options, *assembler)
        found = {"captured": sass_identity(texts)}
        cached = _triton_texts(assembler, {text[0] for text in texts.values()}, self.plan.texts) if assembler[0] else {}
        if cached:
            found["other texts of Triton's cache"] = sass_identity(cached)
        self.result["ptx"] = found
        print(f"  {found}", flush=True)

    def _measure(self, programs: Sequence[Program], made: Mapping[str, Any]) -> None:
        turns: dict[str, tuple[Program, Callable[[], None]]] = {}
        wrong: dict[str, dict[str, Any]] = {}
        for one in programs:
            turns[one.name] = (one, one.replay)
            if not one.rewritten:
                continue
            replays: dict[str, Callable[[], None]] = {}
            about = self.result.setdefault("variants", {}).setdefault(one.name, {})
            searched = self.tried(
                f"{one.name}: search", lambda one=one: optimized(one, self.plan.search_s, ["measured"])
            )
            for found in (made.get(one.name), searched):
                if found is not None:
                    replays |= found.replays
                    about |= found.about
            if searched is not None and searched.replays:
                about["measured"]["remembered_s"] = self.tried(
                    f"{one.name}: remembered", lambda one=one: _remembered(one)
                )
            steps = self.tried(
                f"{one.name}: identity", lambda one=one, replays=replays: compared(one, replays, self.plan.steps)
            )
            turns |= {f"{one.name}: {name}": (one, replay) for name, replay in replays.items()}
            if steps is not None and steps[OWN]["bytes"]:
                self.tried(f"{one.name}: variation", lambda one=one: self._look_for_variation(one))
            for name, counts in (steps or {}).items():
                wrong[one.name if name == OWN else f"{one.name}: {name}"] = counts
        self.result |= {"steps": self.plan.steps, "wrong": wrong}
        times = self.tried("timing", lambda: timed(turns)) if turns else None
        if times:
            base = programs[0].name
            self.result |= {"us": times, "base": base, "ratios": ratios(times, base)}
            self.result["table"] = table_of(times, base, wrong)
            print(self.result["table"], flush=True)
        self.write()
        if self.plan.debug_s and programs:
            first = programs[0]
            self.tried("debug", lambda: self.result.update(debug={first.name: self._debugged(first)}))

    def _look_for_variation(self, one: Program) -> None:
        from forerun.external.variation import find_variation

        found = find_variation(one.live, _prepare(one), steps=200)
        self.result.setdefault("variation", {})[one.name] = str(found)
        print(f"  {one.name}: {found}", flush=True)

    def _debugged(self, one: Program) -> dict[str, Any]:
        import torch
        from external_debug import debugged

        # What is read too early are then numbers that the program can have, indices among them, but of other inputs
        # than those of each step.
        one.refresh(0)
        one.replay()
        torch.cuda.synchronize()
        return debugged(one.live, _prepare(one), seconds=self.plan.debug_s)


def _remembered(one: Program) -> float:
    """Seconds of ``optimize`` when it was asked the same before."""
    begin = time.perf_counter()
    with forerun.optimize(one.live):
        return time.perf_counter() - begin


def _prepare(one: Program) -> Callable[[int], None]:
    """Puts the inputs of a step in place."""
    import torch

    def prepare(step: int) -> None:
        one.refresh(step + 1)
        torch.cuda.synchronize()

    return prepare


def _triton_texts(
    assembler: tuple[str, str], known: set[str], most: int
) -> dict[str, tuple[str, tuple[str, ...], str, str]]:
    """What else Inductor and Triton compiled in this process, the candidates of autotuning among it."""
    folders = [Path(os.environ[name]) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR") if name in os.environ]
    found: dict[str, tuple[str, tuple[str, ...], str, str]] = {}
    for folder in folders:
        for path in sorted(folder.glob("**/*.ptx")):
            text = path.read_text(encoding="utf-8")
            if text not in known and len(found) < most:
                known.add(text)
                found[f"{path.parent.name[:12]}/{path.stem}"] = (text, ("-lineinfo",), *assembler)
    return found


# All cases


def _command(name: str, plan: Plan, lock: Path, output: Path) -> list[str]:
    words = ["--one", "--steps", plan.steps, "--search", plan.search_s, "--debug", plan.debug_s]
    words += ["--texts", plan.texts]
    words += ["--lock", lock, "--output", output, *(["--save", plan.save] if plan.save else [])]
    return [sys.executable, __file__, name, *map(str, words)]


def run_all(
    names: Sequence[str], plan: Plan, command: Callable[[str, Plan, Path, Path], list[str]] = _command
) -> dict[str, dict[str, Any]]:
    """The results of cases, each of a process of its own; all begin at once."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="forerun-zoo-") as place:
        folder = Path(place)
        begin = time.monotonic()
        running = {}
        for name in names:
            log = (folder / f"{name}.log").open("wb")
            kept = (plan.caches or folder) / name
            caches = {
                "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor"),
                "TRITON_CACHE_DIR": str(kept / "triton"),
                "PYTHONUNBUFFERED": "1",
            }
            threads = {"TORCHINDUCTOR_COMPILE_THREADS": os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", "6")}
            running[name] = subprocess.Popen(
                command(name, plan, folder / "lock", folder / f"{name}.json"), stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **caches, **threads}, start_new_session=True,
            )  # fmt: skip
            log.close()
        while running:
            for name, process in list(running.items()):
                late = time.monotonic() - begin > plan.limit_s
                if process.poll() is None and not late:
                    continue
                status = _ended(process)
                del running[name]
                found[name] = _result(folder, name, status, time.monotonic() - begin)
            time.sleep(0.2)
    return found


def _ended(process: subprocess.Popen[bytes]) -> str:
    """How a process ended; one that still runs is stopped, with those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "stopped: it took too long"
    return "" if process.returncode == 0 else f"exit status {process.returncode}"


def _result(folder: Path, name: str, status: str, seconds: float) -> dict[str, Any]:
    log = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    written = folder / f"{name}.json"
    try:
        result: dict[str, Any] = json.loads(written.read_text()) if written.exists() else {}
    except ValueError:
        result = {"errors": ["it was stopped while it wrote its results"]}
    if status:
        result.setdefault("errors", []).append(status)
    shown = log if len(log) < 9000 else "\n[...]\n".join((log[:3000], log[-6000:]))
    print(f"--- {name}: {seconds:.0f} s {status}\n{shown}", flush=True)
    return {**result, "ended_s": round(seconds, 1), "log": log[-40000:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all, if none is named")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="compared steps of each program")
    parser.add_argument("--search", type=float, default=Plan.search_s, help="seconds of search for each program")
    parser.add_argument("--debug", type=float, default=Plan.debug_s, help="seconds of planted faults, in each case")
    parser.add_argument("--save", type=Path, help="a folder for what was captured")
    parser.add_argument("--caches", type=Path, help="a folder for what Inductor compiles, kept for the next run")
    parser.add_argument("--texts", type=int, default=Plan.texts, help="texts of Triton's cache, assembled twice")
    parser.add_argument("--limit", type=float, default=Plan.limit_s, help="seconds after which all cases are stopped")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", action="store_true", help="run the case in this process")
    parser.add_argument("--lock", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = list(dict.fromkeys(arguments.cases)) or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    plan = Plan(
        arguments.steps, arguments.search, arguments.limit, arguments.debug, arguments.save, arguments.caches,
        arguments.texts,
    )  # fmt: skip
    if arguments.one:
        case = _Case(names[0], plan, arguments.lock, arguments.output)
        case.tried("all", case.run)
        sys.stdout.flush()
        os._exit(1 if "errors" in case.result else 0)  # the program's graphs and ours are given back in no order
    found = run_all(names, plan)
    told = metrics(found)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({**origin(), "metrics": told, "cases": found}, indent=1) + "\n")
    print("\n=== " + summary(found))
    print("\n".join(f"{name}: {value}" for name, value in told.items()), flush=True)
    return int(any("errors" in case for case in found.values()))


if __name__ == "__main__":
    sys.exit(main())
