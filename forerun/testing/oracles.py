"""Oracles: statements about graphs before and after a rewrite, each decided by other means than the rewrite's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.explain import explain
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import Verdict
from forerun.ir.text import draw, parse_graph, print_graph
from forerun.ir.types import BufferRole
from forerun.ir.verify import verify
from forerun.runtime.base import ScheduledProgram, Target
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import Diagnostic, ForerunError, Severity, Unsupported
from forerun.testing.counterexample import Counterexample
from forerun.testing.random_values import inputs_of, weights_of
from forerun.testing.subject import Subject, applied, pipeline_of

__all__ = ["SEEDS", "assert_idempotent", "assert_refines", "assert_roundtrip", "assert_same_outputs", "assert_valid"]

SEEDS = tuple(range(8))
"""Adversarial schedules that are tried by default: two of each strategy."""

_REPLAYS = 2
_SHOWN_FINDINGS = 4

Inputs: TypeAlias = Mapping[str, ArrayLike]
_Observed: TypeAlias = list[tuple[str, NDArray[Any]]]


def assert_valid(graph: Graph, before: Graph | None = None) -> None:
    """Assert that a graph violates no invariant of the verifier.

    Args:
        graph: Any graph.
        before: What it was made from, for the message.

    Raises:
        Counterexample: If it violates one.
    """
    errors = [d for d in verify(graph) if d.severity is Severity.ERROR]
    if errors:
        raise Counterexample("valid", _headline(errors), before or graph, graph, details=_drawn(errors, graph))


def assert_refines(
    before: Graph, after: Graph, *, assumptions: Collection[str] = (), allow_unsupported: bool = False
) -> None:
    """Assert that a graph is valid, and means the same as the one before: ``certify`` proves it.

    Args:
        before: A valid graph.
        after: What was made of it.
        assumptions: Rules beyond the strict ones, such as ``H6``.
        allow_unsupported: Accept what can be neither proved nor refuted, such as graphs with black boxes.

    Raises:
        Counterexample: If it is not proved.

    Example:
        >>> from forerun.ir.graph import Graph
        >>> assert_refines(Graph("nothing"), Graph("nothing"))
    """
    assert_valid(after, before)
    verdict = certify(before, after, frozenset(assumptions))
    if verdict.status == "proved" or (allow_unsupported and verdict.status == "unsupported"):
        return
    finding = f"{verdict.status}: {_headline(verdict.findings)}"
    details = partial(_explained, verdict, after, frozenset(assumptions))
    raise Counterexample("refines", finding, before, after, details=details)


def assert_same_outputs(
    before: Graph,
    after: Graph,
    inputs: Inputs | Sequence[Inputs] | None = None,
    seeds: Iterable[int] = SEEDS,
    *,
    weights: Inputs | None = None,
    targets: Iterable[Target] = (),
) -> None:
    """Assert that two graphs compute the same, bit by bit: outputs after each of two replays, and the state.

    The graph before runs on the reference target in serial order. The graph after runs there in serial order, and
    under the adversarial schedules of the seeds.

    Args:
        before: A graph that the reference target can run.
        after: What was made of it.
        inputs: Values for the inputs, or those of each replay; by default :func:`inputs_of`.
        seeds: Which adversarial schedules are tried.
        weights: Values for the weights; by default :func:`weights_of`.
        targets: More targets for the graph after; one that has not what the graph before needs is left out.

    Raises:
        Counterexample: If something differs, or the graph after cannot run.
        Unsupported: If the graph before cannot run.
    """
    given = _replays(before, inputs)
    values = weights_of(before) if weights is None else weights
    expected = _observed(before, before, ReferenceTarget(), given, values)[0]
    tried = [ReferenceTarget(), *(ReferenceTarget("adversarial", seed) for seed in seeds), *targets]
    for target in tried:
        try:
            found, schedules = _observed(before, after, target, given, values)
        except ForerunError as error:
            if isinstance(error, Unsupported) and not _is_runnable(before, target, values):
                continue
            finding = f"it does not run on {target}: {str(error).partition(chr(10))[0]}"
            raise Counterexample("same-outputs", finding, before, after, replay=_rerun(target)) from error
        for (what, wanted), (_, value) in zip(expected, found, strict=True):
            if wanted.tobytes() != value.tobytes():
                finding = f"{what} differs on {target}: {_difference(wanted, value)}"
                shown = [f"expected {wanted.tolist()}", f"found    {value.tolist()}", *schedules]
                details = partial(_difference_explained, shown, before, after)
                raise Counterexample("same-outputs", finding, before, after, details=details, replay=_rerun(target))


def assert_idempotent(pass_: Subject, graph: Graph) -> None:
    """Assert that a second application of a pass changes nothing.

    Raises:
        Counterexample: If it changes something.
    """
    pipeline = pipeline_of(pass_)
    once = applied(pipeline, graph)
    twice = applied(pipeline, once)
    if twice != once:
        finding = f"a second application of {pipeline} changes the graph again (shown: the result of the first)"
        raise Counterexample("idempotent", finding, once, twice)


def assert_roundtrip(graph: Graph) -> None:
    """Assert that the text of a graph is read as the same graph.

    Raises:
        Counterexample: If it is not.
    """
    text = print_graph(graph)
    try:
        again = parse_graph(text)
    except ForerunError as error:
        raise Counterexample("roundtrip", "its text cannot be read", graph, details=str(error)) from error
    if again != graph:
        raise Counterexample("roundtrip", "its text is read as another graph", graph, again)


def _replays(graph: Graph, inputs: Inputs | Sequence[Inputs] | None) -> Sequence[Inputs]:
    if inputs is None:
        return [inputs_of(graph, i) for i in range(_REPLAYS)]
    return [inputs] * _REPLAYS if isinstance(inputs, Mapping) else inputs


def _observed(
    before: Graph, graph: Graph, target: Target, replays: Sequence[Inputs], weights: Inputs
) -> tuple[_Observed, list[str]]:
    """What can be seen of a graph's replays of what can be seen of the graph before; and the schedules."""
    observed: _Observed = []
    schedules: list[str] = []
    state = [b.name for b in before.buffers.values() if b.role is BufferRole.STATE]
    outputs = [b.name for b in before.buffers.values() if b.role is BufferRole.OUTPUT]
    program = target.load(graph, {name: weights[name] for name in _weights(graph)})
    try:
        for i, inputs in enumerate(replays, start=1):
            names = _named(graph, BufferRole.INPUT, BufferRole.PARAM)
            found = program.run({name: inputs[name] for name in names})
            observed += [(f"output %{name} of replay {i}", found[name]) for name in outputs]
            schedule = program.last_schedule if isinstance(program, ScheduledProgram) else None
            schedules += [str(schedule)] if schedule is not None else []
        observed += [(f"state %{name}", program.read(name)) for name in state]
    finally:
        program.close()
    return observed, schedules


def _is_runnable(graph: Graph, target: Target, weights: Inputs) -> bool:
    try:
        target.load(graph, {name: weights[name] for name in _weights(graph)}).close()
    except Unsupported:
        return False
    return True


def _weights(graph: Graph) -> list[str]:
    return [buffer.name for buffer in graph.buffers.values() if buffer.needs_value]


def _named(graph: Graph, *roles: BufferRole) -> list[str]:
    return [buffer.name for buffer in graph.buffers.values() if buffer.role in roles]


def _difference(wanted: NDArray[Any], found: NDArray[Any]) -> str:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return f"{wanted.dtype}{list(wanted.shape)} became {found.dtype}{list(found.shape)}"
    bits = np.dtype(f"u{wanted.dtype.itemsize}")
    at = int(np.flatnonzero(wanted.reshape(-1).view(bits) != found.reshape(-1).view(bits))[0])
    index = ", ".join(map(str, np.unravel_index(at, wanted.shape)))
    return f"element [{index}] is {found.reshape(-1)[at]}, not {wanted.reshape(-1)[at]}"


def _rerun(target: Target) -> str:
    compiled = f'forerun.compile(after, target="{target}", pipeline=None, weights=weights_of(after))'
    imports = "import forerun\nfrom forerun.testing import inputs_of, weights_of"
    return f"{imports}\n\n# after: what the passes make of the graph\n{compiled}.run(inputs_of(after))"


def _headline(findings: Sequence[Diagnostic]) -> str:
    first = findings[0]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{first.location}: {first.message}{more}"


def _difference_explained(shown: Sequence[str], before: Graph, after: Graph) -> str:
    """The values and schedules that were seen, and what the certificate says of the rewrite."""
    lines = list(shown)
    errors = [d for d in verify(after) if d.severity is Severity.ERROR]
    verdict = None if errors else certify(before, after)
    if verdict is None:
        lines += ["", "the graph after is not valid:", _drawn(errors, after)]
    elif verdict.proved:
        lines += [
            "",
            "the certificate proves the rewrite: some kernel does not do what it declares, or forerun is wrong",
        ]
    else:
        lines += ["", f"the certificate says: {verdict.status}", _explained(verdict, after)]
    return "\n".join(lines)


def _explained(verdict: Verdict, graph: Graph, assumptions: frozenset[str] = frozenset()) -> str:
    """Findings as ``forerun check`` shows them: drawn in the graph's text, with a schedule and repairs."""
    found = explain(graph, verdict, assumptions, limit=_SHOWN_FINDINGS)
    lines: list[str] = []
    for explanation in found[:_SHOWN_FINDINGS]:
        lines += [*([""] if lines else []), _drawn([explanation.finding], graph), *explanation.lines()]
    return "\n".join(lines + ([f"... and {len(found) - _SHOWN_FINDINGS} more"] if found[_SHOWN_FINDINGS:] else []))


def _drawn(findings: Sequence[Diagnostic], graph: Graph) -> str:
    return draw(findings[:_SHOWN_FINDINGS], graph)
