"""How a mutant is tried: in a process of its own, with the tests that execute the changed statement, cheapest first.

A session of pytest collects the tests once, and is forked for each mutant; there the code of the mutated function is
exchanged in place. A change that takes effect when its module is imported needs a session of its own, and all tests.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import SourceFileLoader
from multiprocessing import get_context
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from benchmarks.mutants import Mutant, mutated

__all__ = ["ROOT", "Coverage", "TestRecord", "in_fork", "record", "serve", "try_imported"]

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/incidents/test_incidents.py",
    "tests/passes/test_cases.py",
    "tests/ir/explain",
    "tests/ir/refinement",
    "tests/ir/semantics",
    "tests/wrong/test_wrong.py::test_the_right_checker_is_not_contradicted",
    "tests/passes/test_laws.py",  # without the wrong twins: they are no tests of the real passes
    "tests/passes/test_statistics.py",
    "tests/passes/test_details_of_passes.py",
    "tests/passes/test_plan_memory.py",
    "tests/passes/test_fuse_kernels.py",
    "tests/passes/test_fusion_laws.py",
    "tests/tuner/test_tuning_file.py",
    "tests/passes/infra/test_certify.py",
    "tests/cli/test_cli_check.py",
)
_OPTIONS = (
    "-q",
    "--assert=plain",
    "-k",
    "not twins",
    "--capture=no",
    "--tb=native",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
)
_MEMORY = 8 << 30
_KILLED = 9
"""The exit code of a process in which a test failed."""
LIMIT = 300
"""Seconds that one mutant may take, whatever the machine is busy with; one that takes longer is killed by its time."""


@dataclass(frozen=True)
class TestRecord:
    """What one test did without a mutant: the seconds it took, and the lines that it executed, by file."""

    passed: bool
    seconds: float
    lines: Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Coverage:
    """What all tests did, by their ids, and the lines that imports alone execute."""

    tests: Mapping[str, TestRecord]
    imported: Mapping[str, frozenset[int]]

    def is_imported(self, mutant: Mutant) -> bool:
        """Whether the change takes effect when modules are imported."""
        return mutant.function is None or self._meets(self.imported, mutant, mutant.lines)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that execute the changed statement, cheapest first; all, if it is executed by imports."""
        found = [
            name
            for name, test in self.tests.items()
            if self.is_imported(mutant) or self._meets(test.lines, mutant, mutant.lines)
        ]
        return sorted(found, key=self.seconds)

    def seconds(self, test: str) -> float:
        """What a test takes without a mutant."""
        return self.tests[test].seconds

    @staticmethod
    def _meets(lines: Mapping[str, frozenset[int]], mutant: Mutant, span: tuple[int, int]) -> bool:
        return any(line in lines.get(mutant.path, ()) for line in range(span[0], span[1] + 1))


class _Session:
    """A plugin of pytest that does something else with the collected tests than to run them all.

    Few examples, the same for every mutant, and no time spent on shrinking.
    """

    def __init__(self, job: Callable[[_Session, list[pytest.Item]], None]) -> None:
        self.job = job
        self.failed = False

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

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        gc.freeze()
        self.job(self, session.items)
        return True

    def fails(self, items: Sequence[pytest.Item], seconds: Callable[[str], float]) -> bool:
        """Whether one of the tests fails; a test that takes much longer than without a mutant ends the process."""
        for item, following in zip(items, [*items, None][1:], strict=True):
            signal.setitimer(signal.ITIMER_VIRTUAL, 10 + 10 * seconds(item.nodeid))
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return True
        return False


def _run_session(job: Callable[[_Session, list[pytest.Item]], None]) -> int:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return int(pytest.main([*_OPTIONS, *TESTS], plugins=[_Session(job)]))


def in_fork(job: Callable[[], object], limit: float | None = None) -> int | None:
    """Run something in a forked process; its exit code, or ``None`` if it had to be stopped."""
    process = get_context("fork").Process(target=job)
    process.start()
    process.join(limit)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    return None if alive else process.exitcode


# Without a mutant


def record(paths: Iterable[str], send: Callable[[object], None]) -> None:
    """Run each test in a process of its own, and send a :class:`Coverage` of some files.

    To be called in a process that has not imported these yet.
    """
    files = {str(ROOT / path): path for path in paths}
    imported = _traced(files, lambda: [import_module(_module(path)) for path in files.values()])
    tests: dict[str, TestRecord] = {}

    def job(session: _Session, items: list[pytest.Item]) -> None:
        for item in items:
            receiver, sender = get_context("fork").Pipe(duplex=False)

            def run(item: pytest.Item = item, sender: object = sender) -> None:
                start = time.process_time()
                lines = _traced(files, lambda: session.fails([item], lambda _: 600))
                sender.send(TestRecord(not session.failed, time.process_time() - start, lines))  # type: ignore[attr-defined]
                os._exit(0)

            process = get_context("fork").Process(target=run)
            process.start()
            sender.close()
            tests[item.nodeid] = receiver.recv()
            process.join()

    code = _run_session(job)
    assert code == 0, f"pytest ended with {code}"
    send(Coverage(tests, imported))


def _traced(files: Mapping[str, str], run: Callable[[], object]) -> dict[str, frozenset[int]]:
    import coverage

    tracer = coverage.Coverage(data_file=None, include=list(files), config_file=False, messages=False)
    tracer.set_option("run:disable_warnings", ["no-data-collected"])
    tracer.start()
    try:
        run()
    finally:
        tracer.stop()
    data = tracer.get_data()
    return {path: frozenset(data.lines(file) or ()) for file, path in files.items()}


# With a mutant


def serve(
    next_mutant: Callable[[], Mutant | None], coverage: Coverage, answer: Callable[[Mutant, bool, float], None]
) -> None:
    """Try mutants of functions until there are no more."""

    def job(session: _Session, items: list[pytest.Item]) -> None:
        by_name = {item.nodeid: item for item in items}
        while (mutant := next_mutant()) is not None:
            start = time.monotonic()
            chosen = [by_name[name] for name in coverage.of(mutant)]

            def run(mutant: Mutant = mutant, chosen: list[pytest.Item] = chosen) -> None:
                _bound()
                _exchange(mutant)
                os._exit(_verdict(session, chosen, coverage))

            code = in_fork(run, LIMIT)
            # None or negative: too much time; a mutant that uses too much memory makes a test fail.
            assert code in (None, 0, _KILLED) or code < 0, f"{mutant} ended with {code}"
            answer(mutant, code != 0, time.monotonic() - start)

    code = _run_session(job)
    assert code == 0, f"pytest ended with {code}"


def try_imported(mutant: Mutant, coverage: Coverage) -> bool:
    """Whether some test fails if a module is imported with a change; in a process that has not imported it yet."""

    def job(session: _Session, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: coverage.seconds(item.nodeid))
        os._exit(_verdict(session, items, coverage))

    def run() -> None:
        _bound()
        _replace(_module(mutant.path), compile(mutated(ROOT / mutant.path, mutant.number), mutant.path, "exec"))
        _run_session(job)
        os._exit(_KILLED)  # the tests could not be collected

    return in_fork(run, LIMIT) != 0


def _verdict(session: _Session, items: Sequence[pytest.Item], coverage: Coverage) -> int:
    try:
        return _KILLED if session.fails(items, coverage.seconds) else 0
    except BaseException:  # pytest itself, out of memory or stack
        return _KILLED


def _bound() -> None:
    """Bound the memory and the time of a process, for mutants that do not end."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.setitimer(signal.ITIMER_VIRTUAL, 60)


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _exchange(mutant: Mutant) -> None:
    """Give the function that a mutant changes its new code, wherever it is held."""
    file = sys.modules[_module(mutant.path)].__file__
    assert file is not None
    (new,) = _codes(compile(mutated(ROOT / mutant.path, mutant.number), file, "exec"), mutant.function)
    gc.unfreeze()
    held = [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__code__.co_filename == file]
    changed = [f for f in held if (f.__code__.co_name, f.__code__.co_firstlineno) == mutant.function]
    assert changed, f"nothing holds {mutant.function} of {file}"
    for function in changed:
        function.__code__ = new


def _codes(code: CodeType, function: tuple[str, int] | None) -> Iterable[CodeType]:
    """The code of a function, in the code of its module."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_name, constant.co_firstlineno) == function:
                yield constant
            else:
                yield from _codes(constant, function)


def _replace(name: str, code: CodeType) -> None:
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        return code if fullname == name else original(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
