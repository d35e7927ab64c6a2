"""Execute a notebook and write it with its outputs: ``python docs/execute_notebook.py IN.ipynb OUT.ipynb``.

Of pictures only the SVG stays, which is small, and the same each time. Needs the extra ``docs``.
"""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient


def main(source: str, destination: str) -> None:
    notebook = nbformat.read(source, 4)
    NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()
    notebook.metadata.pop("language_info", None)  # says which Python it was
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/svg+xml" in output.get("data", {}):
            output.data.pop("text/html", None)
    nbformat.write(notebook, destination)


if __name__ == "__main__":
    main(*sys.argv[1:])
