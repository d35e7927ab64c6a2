"""What the site has besides its pages: documents of the root, notebooks as pages, docstrings as Markdown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import forerun

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("SECURITY.md", "CHANGELOG.md")
TOP_LEVEL = "<!-- the names of the top level -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents of the root, and a page a notebook."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page = as_markdown(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
    return files


def as_markdown(notebook: dict[str, Any]) -> str:
    """A notebook's cells as Markdown: pictures and tables as HTML, other outputs as text."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        parts += [shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def shown(output: dict[str, Any]) -> str:
    """One output of a cell."""
    data = output.get("data", {})
    for kind in ("image/svg+xml", "text/html"):
        if kind in data:
            html = re.sub(r"\n\s*\n", "\n", "".join(data[kind]))  # an empty line would end the HTML
            return f'<div class="output">{html}</div>'
    return "```text\n{}\n```".format("".join(data.get("text/plain", output.get("text", ""))).rstrip())


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to documents of the root, and to notebooks, lead to their pages; the list of names is filled in."""
    if TOP_LEVEL in markdown:
        markdown = markdown.replace(TOP_LEVEL, top_level_names())
    markdown = re.sub(rf"\]\((?:\.\./)+({'|'.join(map(re.escape, DOCUMENTS))})", rf"]({up(page)}\1", markdown)
    return re.sub(r"(\]\([\w/.-]*notebooks/[\w-]+)\.ipynb\)", r"\1.md)", markdown)


def top_level_names() -> str:
    """A list of the names of the package, which lead to where each is described."""
    places = {
        name: module if module == f"forerun.{name}" else f"{module}.{name}" for name, module in forerun._EXPORTS.items()
    }
    return "\n".join(f"- [`forerun.{name}`][{place}]" for name, place in sorted(places.items()))


def up(page: Page) -> str:
    """The way from a page's folder to that of the pages."""
    return "../" * page.file.src_uri.count("/")


class Docstrings(griffe.Extension):
    """Docstrings as Markdown: Sphinx's roles are code, pages are links, and an example is one of griffe's sections."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(docstring: str) -> str:
    """One docstring; pages of the reference are in ``api``."""
    docstring = re.sub(r":(?:attr|class|data|exc|func|meth|mod):(`+)~?", r"\1", docstring)
    docstring = re.sub(r"\bdocs/([\w-]+)\.md", r"[\1](../\1.md)", docstring)
    return re.sub(r"^( *)Example:$", r"\1Examples:", docstring, flags=re.MULTILINE)
