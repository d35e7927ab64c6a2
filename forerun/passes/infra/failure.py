"""A failed pass, told in one message that answers five questions.

Which pass, what is wrong, what changed, how to rerun it, and where the dumps are.
"""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.ir import text
from forerun.ir.graph import Graph
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import Diagnostic, ForerunError, InternalError
from forerun.support.escaping import visible

if TYPE_CHECKING:
    from forerun.passes.infra.run import PassRun, PipelineRun

__all__ = ["PassFailure", "failure_of", "opt_command", "rerun_command", "tell"]

_SHOWN_DIAGNOSTICS = 8
_SHOWN_DIFF_LINES = 40


class PassFailure(ForerunError):
    """A pass raised an exception, or what it returned was found wrong; the cause is ``__cause__``.

    The exit status is 1 if the meaning of the graph was refuted, that of the cause if the pass raised a
    :class:`ForerunError`, else 4.

    Attributes:
        headline: Which pass, and what happened, in one line.
        ordinal: Its place in the pipeline, from 1.
        pass_text: The pass as pipeline text.
    """

    def __init__(
        self, headline: str, ordinal: int, pass_text: str, diagnostics: Sequence[Diagnostic], exit_status: int
    ) -> None:
        super().__init__(headline, tuple(diagnostics))
        self.headline = headline
        self.ordinal = ordinal
        self.pass_text = pass_text
        self.exit_status = exit_status

    def __str__(self) -> str:
        return self.message  # the diagnostics are drawn in it


def failure_of(run: PipelineRun, step: PassRun, cause: Exception | SystemExit, *, in_check: bool) -> PassFailure:
    """The failure that a cause is; :func:`tell` completes its message.

    ``in_check`` says that an instrument raised it, rather than the pass.
    """
    found = cause.diagnostics if isinstance(cause, ForerunError) else ()
    source = text.locate(step.before if step.after is None else step.after) if found else None
    diagnostics = [d if source is None else d.at(text.place_in(source, d.location)) for d in found]
    status = cause.exit_status if isinstance(cause, ForerunError) else 4
    which = f"pass {step.ordinal} of {len(run.pipeline)}, {step.record.text}"
    headline = visible(f"{which}: {_headline(cause, in_check)}")
    return PassFailure(headline, step.ordinal, step.record.text, diagnostics, status)


def tell(failure: PassFailure, run: PipelineRun, step: PassRun, cause: Exception | SystemExit) -> str:
    """The whole message of a failure."""
    dump = run.summary.dump
    sections = [
        failure.headline,
        _section("what is wrong", _what_is_wrong(step, cause)),
        _section("what changed", _what_changed(step, dump)),
        _section("rerun it", rerun_command(run, step)),
        _section("dumps", _dumps(run)),
    ]
    return "\n\n".join(sections)


def rerun_command(run: PipelineRun, step: PassRun) -> str:
    """A shell command that applies the pass to the graph that it got."""
    alone = Pipeline([step.subject])
    file = run.file_before(step.ordinal)
    if file is not None:
        return opt_command(file, alone)
    if run.reproducer is not None:
        return opt_command(run.reproducer, alone, with_pipeline=False)
    return opt_command(run.file, Pipeline(run.pipeline.passes[: step.ordinal])) + " --dump DIR"


def opt_command(file: str | Path, pipeline: Pipeline, *, with_pipeline: bool = True) -> str:
    """``forerun opt`` with what it needs to know the passes of a pipeline."""
    words = ["forerun", "opt", str(file)]
    words += [word for argument in pipeline.loads for word in ("--load", argument)]
    words += ["--pipeline", pipeline.portable_text] if with_pipeline else []
    return shlex.join(words)


def _headline(cause: Exception | SystemExit, in_check: bool) -> str:
    if isinstance(cause, ForerunError):
        return cause.message.partition("\n")[0]
    words = _exception_words(cause).partition("\n")[0]
    return f"the check after it raised {words}" if in_check else f"it raised {words}"


def _section(title: str, body: str) -> str:
    return f"{title}:\n" + "\n".join(f"  {line}" if line else "" for line in body.splitlines())


def _what_is_wrong(step: PassRun, cause: Exception | SystemExit) -> str:
    if not isinstance(cause, ForerunError):
        return "\n".join([_exception_words(cause), *_origin(cause)])
    parts = [] if cause.diagnostics else [cause.message]
    parts += [_drawn(cause.diagnostics, step.before if step.after is None else step.after)]
    parts += getattr(cause, "__notes__", [])  # of Exception.add_note
    parts += [f"hint: {cause.hint}"] if cause.hint else []
    if isinstance(cause, InternalError) and step.after is None:
        parts += _origin(cause)  # the pass misused something: its author wants to know where
    return "\n".join(part for part in parts if part)


def _drawn(diagnostics: Sequence[Diagnostic], graph: Graph) -> str:
    shown = diagnostics[:_SHOWN_DIAGNOSTICS]
    in_graph = [d for d in shown if d.location.kind != "text"]
    lines = [str(d) for d in shown if d.location.kind == "text"]
    if in_graph:
        lines.append(text.draw(in_graph, graph).rstrip("\n"))
    if len(diagnostics) > len(shown):
        lines.append(f"... and {len(diagnostics) - len(shown)} more")
    return "\n".join(lines)


def _exception_words(error: Exception | SystemExit) -> str:
    return "".join(traceback.format_exception_only(error)).rstrip("\n")


def _origin(error: Exception | SystemExit) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[1:][-3:]  # the first one is the manager's
    return [f'  at {frame.name}, "{frame.filename}", line {frame.lineno}' for frame in reversed(frames)]


def _dumps(run: PipelineRun) -> str:
    lines = [str(run.summary.dump) if run.summary.dump else 'none; --dump DIR (in Python: dump="DIR") writes them']
    if run.reproducer is not None:
        lines.append(f"{run.reproducer}: the pass and the graph that it got, in one file")
    return "\n".join(lines)


def _what_changed(step: PassRun, dump: Path | None) -> str:
    if step.after is None:
        return "nothing: it returned no graph"
    if not step.changed:
        return "nothing: it returned the graph that it got"
    lines = text.diff_graphs(step.before, step.after).splitlines()
    if not lines:
        return "nothing: it returned an equal graph"
    if len(lines) > _SHOWN_DIFF_LINES:
        file = step.record.files.get("diff")
        rest = f", in {dump / file}" if dump and file else ""
        lines = [*lines[:_SHOWN_DIFF_LINES], f"... {len(lines) - _SHOWN_DIFF_LINES} more lines{rest}"]
    return "\n".join(lines)
