"""The page: an overview of the passes, then for each pass what it counted, its diff, and the graph before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.report.bench import draw_bench, read_bench
from forerun.report.cards import Marks, changes
from forerun.report.diff import draw_diff
from forerun.report.findings import draw_findings
from forerun.report.items import draw_items, read_items
from forerun.report.load import Dump, PassDump
from forerun.report.markup import Markup, asset, embed_json, join, tag
from forerun.report.picture import NameTables, draw_picture, legend, markers, save_button
from forerun.report.strip import draw_step, read_step
from forerun.report.words import counted, duration

__all__ = ["render"]

SHOWN_REMARKS = 10

_SIGNS = {
    "proved": "✓",
    "verified": "✓",
    "ok": "✓",
    "refuted": "✗",
    "failed": "✗",
    "unchanged": "=",
    "skipped": "\N{EN DASH}",
}


def render(dump: Dump) -> str:
    """The whole page of a dumped run."""
    tables = NameTables()
    sections = list(_sections(dump, tables))
    body = tag("main", _header(dump), _overview(dump), _machine_code(dump), _measured(dump), legend(), *sections)
    names = tag("script", embed_json(tables.tables), type="application/json", id="names")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"forerun: {dump.graph}"),
        tag("style", asset("graph.css"), asset("bench.css"), id="graph-style"),
        tag("style", asset("page.css")),
    )
    page = tag("html", head, tag("body", markers(), body, names, tag("script", asset("page.js"))), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def _header(dump: Dump) -> Markup:
    count = f"{len(dump.passes)} pass{'es' * (len(dump.passes) != 1)}"
    facts = f"{count} in {duration(dump.seconds)}, checks included · forerun {dump.version}"
    return tag(
        "header",
        tag("h1", dump.graph, " ", _badge(dump.status)),
        tag("p", tag("code", dump.pipeline or "no passes"), class_="pipeline"),
        tag("p", facts, class_="note"),
        _error(dump) if dump.error else "",
    )


def _error(dump: Dump) -> Markup:
    last = dump.steps[-1]
    where = tag("a", "what is wrong", href=f"#pass-{last.ordinal}") if last.findings else ""
    return tag("pre", dump.error, "\n" if where else "", where, class_="error")


def _badge(verdict: str) -> Markup:
    return tag("span", f"{_SIGNS.get(verdict, '?')} {verdict}", class_=f"badge {_word(verdict)}")


def _word(text: str) -> str:
    return text if text.isalnum() else "other"


def _measured(dump: Dump) -> Markup:
    bench, step, items = read_bench(dump), read_step(dump), read_items(dump)
    return join(
        "" if bench is None else draw_bench(bench),
        "" if step is None else draw_step(step),
        "" if items is None else draw_items(items),
    )


# The overview


def _overview(dump: Dump) -> Markup:
    titles = ("", "pass", "time of pass and checks", "verdict", "nodes", "dependencies", "statistics")
    head = tag("thead", tag("tr", *(tag("th", title) for title in titles)))
    longest = max((step.seconds + step.verification_seconds for step in dump.passes), default=0.0)
    most = max((sum(step.dependencies.values()) for step in dump.steps), default=0)
    rows = [_row(step, longest, most) for step in dump.steps]
    return tag("div", tag("table", head, tag("tbody", *rows), class_="overview"), class_="scroll")


def _row(step: PassDump, longest: float, most: int) -> Markup:
    name = tag("a", step.text, href=f"#pass-{step.ordinal}") if step.ordinal else tag("span", "input")
    return tag(
        "tr",
        tag("td", str(step.ordinal), class_="number"),
        tag("td", name, class_="name"),
        tag("td", _time(step, longest) if step.ordinal else ""),
        tag("td", _badge(step.verdict)),
        tag("td", f"{step.nodes:,}", class_="number"),
        tag("td", _dependencies(step.dependencies, most)),
        tag("td", counted(step.statistics, nothing=""), class_="statistics"),
    )


def _time(step: PassDump, longest: float) -> Markup:
    """Two bars, pass and checks, in proportion to the slowest pass."""
    scale = 90 / longest if longest else 0.0
    bars = [
        tag("i", class_=kind, style=f"width:{seconds * scale:.1f}px")
        for kind, seconds in (("own", step.seconds), ("checks", step.verification_seconds))
    ]
    title = f"{duration(step.seconds)} in the pass, {duration(step.verification_seconds)} in its checks"
    return tag("div", tag("span", *bars, class_="bar"), " ", duration(step.seconds), class_="time", title=title)


def _dependencies(counts: Mapping[str, int], most: int) -> Markup:
    scale = 110 / most if most else 0.0
    bars = [tag("i", class_=kind, style=f"width:{count * scale:.1f}px") for kind, count in counts.items() if count]
    return join(tag("span", *bars, class_="bar kinds"), tag("span", counted(counts), class_="words"))


# One section a pass


def _sections(dump: Dump, tables: NameTables) -> Iterator[Markup]:
    before = dump.graph_after(dump.input)
    if before is not None and not dump.passes:
        given = dump.input
        wrong = draw_findings(given.findings, given.finding_count, given.graph_file, before)
        figure = _figure("", before, Marks(faults=_faults(given)), tables, "p0")
        yield tag("section", tag("h2", "The graph"), wrong, figure, id="pass-0")
    for step in dump.passes:
        after = dump.graph_after(step) if step.graph_file else (None if step.changed else before)
        yield _section(dump, step, before, after, tables)
        before = after


def _section(dump: Dump, step: PassDump, before: Graph | None, after: Graph | None, tables: NameTables) -> Markup:
    parts: list[str] = [
        tag("h2", tag("span", str(step.ordinal), class_="ordinal"), step.text, " ", _badge(step.verdict))
    ]
    if step.statistics:
        parts.append(_statistics_list(step.statistics))
    parts += _remarks(step.remarks)
    parts.append(draw_findings(step.findings, step.finding_count, step.graph_file, after))
    if step.diff_file:
        parts.append(draw_diff(dump.read(step.diff_file), step.diff_file))
    if step.graph_file and after is None:
        parts.append(tag("p", f"{step.graph_file} cannot be read, so there is no picture of it.", class_="note"))
    if before is not None and after is not None and after is not before:
        parts.append(_pair(step, before, after, tables))
    elif not step.changed:
        parts.append(tag("p", "The graph stays as it is.", class_="note"))
    return tag("section", *parts, id=f"pass-{step.ordinal}")


def _machine_code(dump: Dump) -> Markup:
    """What the target remarked: lost hoists, and neighbours that do not fit together."""
    if not dump.remarks:
        return join()
    return tag("section", tag("h2", "The machine code"), *_remarks(dump.remarks), id="machine-code")


def _statistics_list(statistics: Mapping[str, int]) -> Markup:
    items = [tag("li", tag("b", f"{count:,}"), " ", name.replace("_", " ")) for name, count in statistics.items()]
    return tag("ul", *items, class_="counts")


def _remarks(remarks: Iterable[str]) -> list[Markup]:
    items = [tag("li", remark) for remark in remarks]
    if not items:
        return []
    if len(items) <= SHOWN_REMARKS:
        return [tag("ul", *items, class_="remarks")]
    summary = tag("summary", tag("b", "Remarks"), tag("span", f"{len(items):,}"))
    return [tag("details", summary, tag("ul", *items, class_="remarks"), class_="diff")]


def _pair(step: PassDump, before: Graph, after: Graph, tables: NameTables) -> Markup:
    old, new = changes(before, after)
    new = replace(new, faults=_faults(step))
    return tag(
        "div",
        _figure("before", before, old, tables, f"p{step.ordinal}b"),
        _figure("after", after, new, tables, f"p{step.ordinal}a"),
        class_="pair",
    )


def _faults(step: PassDump) -> frozenset[str]:
    return frozenset(name for finding in step.findings for name in finding.nodes)


def _figure(title: str, graph: Graph, marks: Marks, tables: NameTables, ident: str) -> Markup:
    kinds = counted(graph.count_dependencies(), nothing="no dependencies")
    changed = [
        f"{'all ' if len(found) == count > 1 else ''}{len(found):,} {what}"
        for found, count, what in (
            (marks.nodes, len(graph), "nodes"),
            (marks.pairs, len(graph.dependencies), "dependencies"),
        )
        if found
    ]
    words = f"{len(graph):,} nodes, {kinds}" + (f" · changed: {', '.join(changed)}" if changed else "")
    caption = tag("figcaption", tag("span", tag("b", title), " ", words), save_button(title, ident))
    picture = tag("div", draw_picture(graph, marks, tables=tables, ident=ident), class_="scroll")
    return tag("figure", caption, picture, class_=title or None)
