"""The picture of a graph in a notebook: a page in a frame, so that neither changes how the other looks."""

from __future__ import annotations

from forerun.ir.graph import Graph
from forerun.report.cards import NO_MARKS
from forerun.report.markup import asset, embed_json, tag
from forerun.report.picture import NameTables, draw_picture, legend, markers

__all__ = ["graph_frame"]

_LEAST, _MOST, _A_NODE = 160, 560, 64
"""Height of a frame in pixels."""


def graph_frame(graph: Graph) -> str:
    """An element ``iframe`` with the picture of a graph of any size; repeated layers are folded."""
    tables = NameTables()
    picture = draw_picture(graph, NO_MARKS, tables=tables)
    names = tag("script", embed_json(tables.tables), type="application/json", id="names")
    head = tag("head", tag("meta", charset="utf-8"), tag("style", asset("graph.css"), asset("page.css")))
    body = tag("body", markers(), legend(), picture, names, tag("script", asset("page.js")))
    height = min(_MOST, _LEAST + _A_NODE * len(graph))
    page = f"<!DOCTYPE html>{tag('html', head, body, lang='en')}"
    style = f"width:100%;height:{height}px;border:0"
    return tag("iframe", srcdoc=page, sandbox="allow-scripts", style=style, title=f"graph {graph.name}")
