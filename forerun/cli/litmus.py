"""``forerun litmus``: which rules does this GPU keep, and which assumptions does that support?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import completion, options
from forerun.cli.console import account_console, print_json, print_plain, result_console
from forerun.cli.errors import Status, guarded, leading_on
from forerun.cli.files import require_one_result, write_text
from forerun.cli.options import refuse_unused
from forerun.cli.progress import progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from forerun.runtime.litmus import Counts, LitmusTest, Record

__all__ = ["litmus"]

RUNS = 1000


@guarded
def litmus(
    ctx: typer.Context,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="How often each test runs.")] = RUNS,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="TEST", help="Run this test only. Repeatable.", autocompletion=completion.litmus_tests
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Record the result: what assumptions rest on.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", hidden=True)] = None,
    show: Annotated[
        bool, typer.Option("--list", help="List the tests and what the rules say of them; run nothing, need no GPU.")
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Find out which rules of programmatic launch this GPU keeps.

    Each test is a small graph that would show a broken order of events. What the rules say of it is what the checker
    proves; then it runs many times. At the end stands which of the opt-in rules H6 and H8 the results support.

    Exit status 0 means that everything that the documented rules forbid was never seen, 1 that something was, 3 that
    there is no GPU.
    """
    from forerun.runtime.litmus import select

    tests = select(only or [])
    output = output or out
    if show:
        refuse_unused(ctx, ("runs", "output", "out"), "--list runs no test")
        return _list(tests, as_json=as_json)
    require_one_result(output, as_json=as_json)
    with leading_on("'forerun litmus --list' shows the tests and the rules, 'forerun info' what was looked for"):
        record = _run(tests, runs, shown=not as_json)
    return _report(record, output, as_json=as_json)


# Listing


def _list(tests: Sequence[LitmusTest], *, as_json: bool) -> Status:
    from forerun.runtime.litmus import needed_assumptions, rule_text

    rows = [(test, rule_text(needed_assumptions(test))) for test in tests]
    if as_json:
        listed = [_described(test, rule) for test, rule in rows]
        print_json({"tests": listed})
        return Status.OK
    table = _table("test", "what", "rules")
    for test, rule in rows:
        table.add_row(test.name, test.what, rule)
    result_console().print(table)
    return Status.OK


def _described(test: LitmusTest, rule: str) -> dict[str, Any]:
    return {
        "test": test.name,
        "what": test.what,
        "rule": rule,
        "control_of": sorted(test.controls),
        "nodes": dict(test.nodes),
        "dependencies": [{"source": d.source, "target": d.target, "kind": str(d.kind)} for d in test.dependencies],
        "ctas": test.ctas,
        "threads": test.threads,
    }


# Running


def _run(tests: Sequence[LitmusTest], runs: int, *, shown: bool) -> Record:
    from forerun.runtime.litmus import Record, graph_of, measure
    from forerun.runtime.litmus.device import GpuRunner
    from forerun.runtime.litmus.machine import this_machine

    machine = this_machine()
    bench = GpuRunner()
    results: dict[str, Counts] = {}
    with progress("compiling", shown=shown) as told:
        bench.prepare([graph_of(test) for test in tests], lambda done, total: told(done=done, total=total))
        for number, test in enumerate(tests):
            told(test.name, done=number, total=len(tests))
            results[test.name] = measure(test, bench, runs)
    return Record(machine, datetime.now(UTC).isoformat(timespec="seconds"), results)


# Telling


def _report(record: Record, out: str | None, *, as_json: bool) -> Status:
    import json

    from forerun.runtime.litmus import broken_rules, record_as_json

    told = record_as_json(record)
    broken = broken_rules(record.results)
    status = Status.REFUTED if broken else Status.OK
    if out is not None:
        write_text(out, json.dumps(told, indent=1) + "\n")
    if as_json:
        print_json({"file": out, **told}, "broken" if broken else "ok", status)
        return status
    console = account_console(out)
    print_plain(console, str(record.machine))
    console.print(_results(told["tests"]))
    _print_conclusions(console, told, broken)
    if out is not None:
        print_plain(console, f"recorded in {out}")
    return status


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        right = header in ("runs", "seen")
        table.add_column(header, justify="right" if right else "left", no_wrap=header != "what", overflow="fold")
    return table


_STYLES = {"kept": "green", "BROKEN": "bold red", "FAULTY": "bold red", "nothing to see": "yellow"}


def _results(tests: Sequence[Mapping[str, Any]]) -> Table:
    from rich.text import Text

    table = _table("test", "what", "runs", "seen", "rules", "verdict")
    for test in tests:
        verdict = Text(test["verdict"], style=_STYLES.get(test["verdict"], ""))
        table.add_row(test["test"], test["what"], str(test["runs"]), str(test["violated"]), test["rule"], verdict)
    return table


def _print_conclusions(console: Console, told: Mapping[str, Any], broken: Sequence[str]) -> None:
    from rich.text import Text

    console.print()
    if broken:
        names = ", ".join(broken)
        print_plain(console, Text.assemble(("broken", "bold red"), f": {names}: trust no programmatic dependency here"))
    else:
        print_plain(console, "what the documented rules forbid was never seen")
    styles = {"granted": "bold green", "refuted": "bold red"}
    for assumption, decision in told["assumptions"].items():
        status = decision["status"]
        console.print(Text.assemble(f"{assumption} ", (status, styles.get(status, "bold yellow"))))
        for reason in decision["reasons"]:
            print_plain(console, f"  {reason}")
