"""From a graph to something that runs: verify, rewrite, load."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.ir.demands import require_vouched
from forerun.ir.graph import Graph
from forerun.ir.parameters import named_parameters
from forerun.ir.trust import Trusted, trusting
from forerun.passes.infra.base import Assessment
from forerun.passes.infra.manager import PassManager, PipelineResult
from forerun.passes.infra.pipeline import BY_TARGET, Pipeline, PipelineLike
from forerun.passes.infra.summary import Summary
from forerun.passes.instrument import Instrument, default_instruments, writers
from forerun.report import reporting, write_report
from forerun.runtime.base import AdjustableProgram, Program, ScheduledProgram, Target, resolve_target
from forerun.runtime.cache_folder import tunings_folder
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.parameters import Parameters
from forerun.support.diagnostics import ForerunWarning, InvalidInput, Unsupported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from forerun.passes.infra.tuning import Tuning
    from forerun.runtime.reference import Schedule

__all__ = ["KNOWN_TUNING", "Executable", "compile", "identity_of", "pipeline_for", "prepare"]

KNOWN_TUNING = "auto"
"""Stands for what was measured before, here or by forerun's authors, for such graphs on such a GPU."""

_CODE_OF = {"reference": {"functions": True, "sources": False}, "cuda": {"functions": False, "sources": True}}
"""What each of our own targets runs of a graph, besides host calls."""


def compile(
    graph: Graph,
    target: str | Target = "reference",
    pipeline: PipelineLike = BY_TARGET,
    dump: str | Path | None = None,
    *,
    weights: Mapping[str, ArrayLike] | None = None,
    memory: Mapping[str, Any] | None = None,
    instruments: Iterable[Instrument] | None = None,
    tuning: str | Path | None = KNOWN_TUNING,
    trust: Trusted | Collection[Trusted] = (),
) -> Executable:
    """Rewrite a graph with a pipeline of passes, and make it ready to run.

    Args:
        graph: The program.
        target: Where it will run: a name with options, such as ``reference{schedule=adversarial,seed=3}``, or a target.
        pipeline: Pipeline text, passes, or a list of both; ``None`` and ``""`` are no passes. By default ``fast`` on a
            GPU, which may change results within the tolerance that the summary tells, and ``exact`` elsewhere, which
            changes no bit.
        dump: A folder for the graph after each pass, the differences, the summary and a report (``index.html``).
        weights: A value for every weight buffer, by name. Each is looked up once, so the mapping may be lazy. Arrays
            that fit are used as they are, without a copy: do not change them while the program is in use.
        memory: Arrays of yours on the GPU, by the names of inputs, outputs and state that are to live there; with
            ``__dlpack__`` or ``__cuda_array_interface__``. State in them begins as it is, and not as zeros.
        instruments: What accompanies the passes instead of the default checks; ``()`` checks nothing but the structure
            of the input.
        tuning: A tuning file of :func:`forerun.tune`, whose choices are applied after the passes if it was measured on
            such a GPU. By default what is known of such graphs on this GPU (:mod:`forerun.passes.infra.known_tunings`)
            is applied after ``fast`` and other pipelines that may change bits; ``None`` applies nothing.
        trust: Modules whose functions, and sources of kernels that the graph may name, besides forerun's own and those
            that the program registered (:func:`forerun.register_function`); see SECURITY.md.

    Returns:
        The program, loaded. Close it, or use it as a context manager, to give its memory back.

    Raises:
        InvalidInput: If the graph, an option, a weight or the dump folder is wrong, or the graph asks for code that
            nobody vouches for.
        Refuted: If the graph, or what a pass made of it, has a race.
        Unsupported: If the target does not exist in this version, or cannot run some node.
        PassFailure: If a pass fails.

    Example:
        >>> import forerun
        >>> builder = forerun.GraphBuilder("twice")
        >>> x = builder.input("x", "i32", 3)
        >>> y = builder.output("y", "i32", 3)
        >>> node = builder.launch(forerun.KERNELS["add_i32"], a=x, b=x, y=y)
        >>> with forerun.compile(builder.build()) as program:
        ...     program(x=[1, 2, 3])["y"].tolist()
        [2, 4, 6]
    """
    if not isinstance(graph, Graph):
        raise InvalidInput(f"compile takes a Graph, not {type(graph).__name__}", hint="GraphBuilder.build() makes one")
    resolved = resolve_target(target)
    with trusting(trust):
        result = prepare(graph, resolved, pipeline, dump, instruments=instruments, tuning=tuning)
        try:
            program = _load(resolved, result.graph, weights or {}, memory)
        except KeyboardInterrupt:
            from forerun.passes.instrument import Dump

            Dump.note_interruption(result.summary)
            raise
    _take_remarks(result.summary, program)
    return Executable(result.graph, result.summary, program)


def prepare(
    graph: Graph,
    target: Target,
    pipeline: PipelineLike = BY_TARGET,
    dump: str | Path | None = None,
    *,
    instruments: Iterable[Instrument] | None = None,
    tuning: str | Path | None = KNOWN_TUNING,
) -> PipelineResult:
    """What :func:`compile` does before it loads the graph; arguments as there."""
    from forerun.ir.verify import require_valid

    require_valid(graph)
    # Before the passes, which may take a while, and which compile what they assess.
    if target.name in _CODE_OF:
        require_vouched(graph, **_CODE_OF[target.name])
    passes = _tuned(pipeline_for(target, pipeline), target, tuning)
    assessor = _OfTarget(target) if isinstance(target, DeviceTarget) else None
    manager = PassManager(passes, _accompany(dump, instruments), assessor=assessor)
    with reporting(dump):
        result = manager.run(graph)
    for message in result.summary.warnings:
        warnings.warn(message, ForerunWarning, stacklevel=3)
    return result


def pipeline_for(target: Target, pipeline: PipelineLike = BY_TARGET) -> Pipeline:
    """The passes that a text stands for on a target.

    Raises:
        InvalidInput: If the text is wrong.
    """
    chosen = ("fast" if isinstance(target, DeviceTarget) else "exact") if pipeline == BY_TARGET else pipeline
    return Pipeline.of(chosen)


def _tuned(passes: Pipeline, target: Target, tuning: str | Path | None) -> Pipeline:
    """The passes, and what applies the tuning."""
    from forerun.passes.apply_tuning import ApplyTuning

    if tuning is None:
        return passes
    if tuning != KNOWN_TUNING:
        return Pipeline((*passes, ApplyTuning(str(tuning), *(identity_of(target) or ("", "")))))
    may_change = isinstance(target, DeviceTarget) and not all(subject.keeps_bits for subject in passes)
    is_tuned = any(isinstance(subject, ApplyTuning) for subject in passes)
    if is_tuned or not may_change:
        return passes
    identity_of(target)  # without a GPU, this ends before the passes
    return Pipeline((*passes, ApplyTuning()))


def identity_of(target: Target) -> tuple[str, str] | None:
    """The GPU and the driver of a target, as tuning files name them; ``None`` if it has none."""
    return target.identity() if isinstance(target, DeviceTarget) else None


class Executable:
    """A compiled graph on a target. Made by :func:`compile`.

    Attributes:
        graph: What runs: the graph after the passes.
        summary: What the passes did.
    """

    def __init__(self, graph: Graph, summary: Summary, program: Program) -> None:
        self.graph = graph
        self.summary = summary
        self._program: Program | None = program
        # Known from the start: to ask a protocol takes longer than to launch a graph.
        self._device = program if isinstance(program, DeviceProgram) else None

    def run(self, inputs: Mapping[str, ArrayLike] | None = None) -> dict[str, NDArray[Any]]:
        """Replay the graph once.

        Args:
            inputs: A value for every input buffer, by name: arrays, or Python numbers and lists of them. Arrays of
                another type are taken if no value changes, such as f64 that f32 holds exactly.

        Returns:
            A copy of every output buffer, by name.

        Raises:
            InvalidInput: If an input is missing, unknown, of another shape, does not fit, or is out of its bounds; if a
                reference function fails; or if the executable is closed.
        """
        if inputs is not None and not isinstance(inputs, Mapping):
            raise InvalidInput(f"inputs are given by name, not as {type(inputs).__name__}", hint="run({'x': ...})")
        return self._open().run(inputs or {})

    def __call__(self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> dict[str, NDArray[Any]]:
        """Like :meth:`run`, with the inputs as keywords where their names allow that: ``program(x=..., token=5)``."""
        return self.run({**inputs, **named} if isinstance(inputs, Mapping) else named if inputs is None else inputs)

    @cached_property
    def parameters(self) -> Parameters:
        """The launch parameters that have names (:meth:`forerun.GraphBuilder.parameter`).

        ``executable.parameters["scale"] = 0.25`` gives all nodes that use it this value, in replays from then on.
        ``graph`` keeps the values that it was compiled with.
        """
        return Parameters(named_parameters(self.graph), self._assign)

    def _assign(self, values: Mapping[str, int | float]) -> None:
        program = self._open()
        if not isinstance(program, AdjustableProgram):
            raise Unsupported("the target cannot change launch parameters", hint="compile again with other values")
        program.assign(values)

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer holds now: state, weights, or what the last run left in any other.

        Raises:
            InvalidInput: If there is no such buffer, or the executable is closed.
        """
        return self._open().read(buffer)

    def write(self, buffer: str, value: ArrayLike) -> None:
        """Set a state buffer, such as a KV cache that was read before.

        Raises:
            InvalidInput: If there is no such buffer, it is not state, the value does not fit, or the executable is
                closed.
        """
        self._open().write(buffer, value)

    def reset(self) -> None:
        """Set all state to zeros, as after compiling.

        Raises:
            InvalidInput: If the executable is closed.
        """
        self._open().reset()

    def launch(self, stream: Any = None) -> None:
        """Enqueue one replay on a GPU, and return at once. Inputs and outputs are what the buffers hold.

        Args:
            stream: Yours: of torch, CuPy or cuda.core, or a handle. By default the program's own.

        Raises:
            InvalidInput: If it is not a stream, or the executable is closed.
            Unsupported: If the target is not a GPU.
        """
        self._on_gpu("launch").launch(stream)

    def synchronize(self) -> None:
        """Wait for all replays that were launched.

        Raises:
            InvalidInput: If a host function failed, or the executable is closed.
            Unsupported: If the target is not a GPU.
        """
        self._on_gpu("synchronize").synchronize()

    def seconds_per_replay(self, count: int = 1) -> float:
        """Replay ``count`` times, back to back, and return the seconds of one, by the clock of the GPU.

        Raises:
            InvalidInput: If the count is not positive, or the executable is closed.
            Unsupported: If the target is not a GPU.
        """
        return self._on_gpu("seconds_per_replay").seconds_per_replay(count)

    def timeline(self) -> Any:
        """When the kernels of the last replay did what: a :class:`~forerun.runtime.timeline.Timeline`.

        Raises:
            InvalidInput: If they note no times (``target="cuda{timeline=true}"``), or the executable is closed.
            Unsupported: If the target is not a GPU.
        """
        return self._on_gpu("timeline").timeline()

    def buffer(self, name: str) -> Any:
        """The memory of a buffer on a GPU, for other libraries to use in place: a ``DeviceArray``.

        Raises:
            InvalidInput: If there is no such buffer, or the executable is closed.
            Unsupported: If the target is not a GPU.
        """
        return self._on_gpu("buffer").buffer(name)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the machine code, by the name of the entry; empty for targets that make none.

        Raises:
            InvalidInput: If the executable is closed.
        """
        self._open()
        return {} if self._device is None else self._device.facts

    @property
    def schedule(self) -> Schedule | None:
        """The order of events of the last run, also of one that failed; ``None`` if the order is the launch order.

        Raises:
            InvalidInput: If the executable is closed.
        """
        program = self._open()
        return program.last_schedule if isinstance(program, ScheduledProgram) else None

    def close(self) -> None:
        """Give back what the program holds. Closing twice is fine."""
        program, self._program, self._device = self._program, None, None
        if program is not None:
            program.close()

    def _on_gpu(self, method: str) -> DeviceProgram:
        self._open()
        if self._device is None:
            raise Unsupported(f"'{method}' needs a GPU", hint="compile with target='cuda'")
        return self._device

    def _open(self) -> Program:
        if self._program is None:
            message = f"the executable of graph '{self.graph.name}' is closed"
            raise InvalidInput(message, hint="compile the graph again, or run it before close()")
        return self._program

    def __enter__(self) -> Executable:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._program is None else "loaded"
        return f"<Executable {self.graph.name}: {len(self.graph)} nodes, {state}>"


def _load(target: Target, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None) -> Program:
    if not memory:
        return target.load(graph, weights)
    if not isinstance(target, DeviceTarget):
        message = f"target '{target.name}' cannot use memory of yours"
        raise Unsupported(message, hint="leave memory= out, or compile with target='cuda'")
    return target.load(graph, weights, memory)


class _OfTarget:
    """The assessor that a target is."""

    def __init__(self, target: DeviceTarget) -> None:
        self._target = target

    def choose(self, candidates: Sequence[Graph]) -> Assessment:
        return Assessment(*self._target.assess(candidates))

    def known_tuning(self, groups: Collection[str]) -> tuple[Path, Tuning] | None:
        from forerun.passes.infra.known_tunings import SHIPPED, known_tuning

        return known_tuning(groups, *self._target.identity(), (tunings_folder(), SHIPPED))


def _take_remarks(summary: Summary, program: Program) -> None:
    """Add what the target remarked to the summary, and to its dump if there is one."""
    remarks = program.remarks if isinstance(program, DeviceProgram) else ()
    summary.remarks += map(str, remarks)
    if remarks and summary.dump is not None:
        from forerun.passes.instrument import Dump

        Dump.rewrite_summary(summary)
        write_report(summary.dump)


def _accompany(dump: str | Path | None, instruments: Iterable[Instrument] | None) -> list[Instrument]:
    if instruments is None:
        return default_instruments(dump)
    return [*([] if dump is None else writers(dump)), *instruments]
