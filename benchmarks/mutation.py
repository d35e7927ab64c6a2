"""Mutation testing of the checker and the passes: do the tests notice a small change of the code?

A mutant is one change of one place: a comparison flipped, ``and`` for ``or``, a condition negated, a constant moved by
one, another operator, a statement left out, ``None`` returned. A seeded sample of all of them is tried. Each runs in a
process of its own, forked from one that has imported pytest already, and is killed by the first test that fails.

(mutmut 3 was tried first: it runs all mutants of a package or those of a name, keeps a copy of the tree, and has no
seeded sample nor a bound on the whole run.)

Run from the repository's root: ``python -m benchmarks.mutation``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

__all__ = ["Mutant", "mutants_of", "mutated"]

ROOT = Path(__file__).resolve().parents[1]
PASSES = ("infer_dependencies", "insert_pdl", "hoist_loads", "reduce_edges")
SURVIVORS = ROOT / "benchmarks" / "results" / "mutation_survivors.json"
TESTS = (
    "tests/incidents/test_incidents.py",
    "tests/passes/test_cases.py",
    "tests/ir/semantics",
    "tests/wrong/test_wrong.py::test_the_right_checker_is_not_contradicted",
    "tests/passes/test_laws.py",  # without the wrong twins: they are no tests of the real passes
    "tests/cli/test_cli_check.py",
)
"""Cheapest first: most mutants do not live long."""
LIMIT = 240
"""Seconds that one mutant may take; one that takes longer is killed by its time."""


@dataclass(frozen=True)
class Mutant:
    """One change: the file, the number of the place in it, and what is changed, for people."""

    path: str
    number: int
    line: int
    change: str


_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in the place of one."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            yield ast.Compare(left, [_COMPARISONS[type(op)]()], comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(op)](), right)
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in _OPERATORS:
            yield ast.AugAssign(target, _OPERATORS[type(op)](), value)
            yield ast.Pass()
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.Continue() | ast.Raise():
            yield ast.Pass()


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every place of a tree that may be changed: parent, field, index; no annotations, decorators and class fields."""
    for field, value in ast.iter_fields(node):
        skipped = field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.JoinedStr)
        if skipped or (isinstance(node, ast.AnnAssign) and field == "target"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, index
                yield from _places(child)


def _child(place: tuple[ast.AST, str, int | None]) -> ast.AST:
    parent, field, index = place
    value = getattr(parent, field)
    return value if index is None else value[index]


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    tree = ast.parse(path.read_text())
    found: list[Mutant] = []
    for place in _places(tree):
        old = _child(place)
        for new in _changes(old):
            before, after = (ast.unparse(ast.fix_missing_locations(x)).splitlines()[0] for x in (old, new))
            name = str(path.relative_to(ROOT))
            found.append(Mutant(name, len(found), getattr(old, "lineno", 0), f"{before}  =>  {after}"))
    return found


def mutated(path: Path, number: int) -> str:
    """The text of a file with the change of that number made."""
    tree = ast.parse(path.read_text())
    count = 0
    for place in list(_places(tree)):
        for new in _changes(_child(place)):
            if count == number:
                parent, field, index = place
                if index is None:
                    setattr(parent, field, copy.deepcopy(new))
                else:
                    getattr(parent, field)[index] = copy.deepcopy(new)
                return ast.unparse(ast.fix_missing_locations(tree))
            count += 1
    raise IndexError(number)


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _try(mutant: Mutant | None) -> None:
    """In a process of its own: import the mutant in place of its module, and run the tests. Exits with their code."""
    import pytest

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if mutant is not None:
        _replace(_module(mutant.path), mutated(ROOT / mutant.path, mutant.number))
    options = [
        "-x",
        "-q",
        "-k",
        "not twins",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    os._exit(pytest.main([*options, *TESTS], plugins=[_FewExamples()]))


class _FewExamples:
    """A pytest plugin: the same few examples for every mutant, and no time spent on shrinking."""

    def pytest_sessionstart(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutation",
            max_examples=40,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")


def _replace(name: str, text: str) -> None:
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> object:
        return compile(text, self.path, "exec") if fullname == name else original(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]


def killed(mutant: Mutant | None) -> tuple[bool, float]:
    """Whether some test fails with a mutant, and the seconds that it took; ``None`` is the code as it is."""
    start = time.monotonic()
    process = get_context("fork").Process(target=_try, args=(mutant,))
    process.start()
    process.join(LIMIT)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    return alive or process.exitcode != 0, time.monotonic() - start


def _share(dead: int, tried: int) -> Metric:
    """The share with its Wilson interval at 95 %."""
    z = 1.96
    share = dead / tried
    middle = (share + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried)) / (1 + z * z / tried)
    return Metric(share, "ratio", middle - half, middle + half)


def main() -> int:
    """Try a sample, and write benchmarks/results/mutation.json and the survivors beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="begin no mutant after this time")
    options = parser.parse_args()
    import networkx  # noqa: F401  imported once, before the forks
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    modules = sorted((ROOT / "forerun/ir/semantics").glob("[!_]*.py"))
    modules += [ROOT / "forerun/passes" / f"{name}.py" for name in PASSES]
    everything = [mutant for path in modules for mutant in mutants_of(path)]
    chosen = random.Random(options.seed).sample(everything, min(options.mutants, len(everything)))
    wrong, seconds = killed(None)
    print(f"{len(everything)} mutants of {len(modules)} files; the tests take {seconds:.0f} s", flush=True)
    if wrong:
        print("the tests fail without a mutant", file=sys.stderr)
        return 1
    end = time.monotonic() + 60 * options.minutes

    def attempt(mutant: Mutant) -> tuple[Mutant, bool] | None:
        if time.monotonic() > end:
            return None
        dead, seconds = killed(mutant)
        print(
            f"{'killed ' if dead else 'ALIVE  '} {seconds:5.1f} s  {mutant.path}:{mutant.line}  {mutant.change}",
            flush=True,
        )
        return mutant, dead

    with ThreadPoolExecutor(options.jobs) as pool:
        tried = [found for found in pool.map(attempt, chosen) if found is not None]
    alive = [mutant for mutant, dead in tried if not dead]
    share = _share(len(tried) - len(alive), len(tried))
    count = Metric(len(tried), "mutants", len(tried), len(tried))
    write_result("mutation", {"mutation.killed_share": share, "mutation.tried": count})
    SURVIVORS.write_text(json.dumps([asdict(mutant) for mutant in alive], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
