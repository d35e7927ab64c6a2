"""Pages of the site that nobody writes: the passes and the kernels, as they are found."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

__all__ = ["kernels_page", "on_files", "passes_page"]


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages; MkDocs calls it."""
    from mkdocs.structure.files import File

    for name, text in (("passes.md", passes_page()), ("kernels.md", kernels_page())):
        files.append(File.generated(config, name, content=text))
    return files


def passes_page() -> str:
    """The passes of forerun, from their declarations, and the pipelines that have names."""
    from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
    from forerun.passes.infra.registry import builtin
    from forerun.support.options import specs

    rows = [
        (f"`{name}`", cls.summary(), ", ".join(sorted(cls.changes)), " ".join(f"`{spec.key}`" for spec in specs(cls)))
        for name, cls in builtin().items()
    ]
    pipelines = [(f"`{name}`", f"`{text}`") for name, text in NAMED_PIPELINES.items()]
    return "\n".join(
        [
            "# Passes",
            "",
            "`forerun opt --list-passes` says more, of your own too; [writing a pass](writing-a-pass.md) shows how.",
            "",
            *_table(("pass", "what it does", "what it may change", "options"), rows),
            "",
            *_table(("pipeline", "passes"), pipelines),
        ]
    )


def kernels_page() -> str:
    """The kernels of ``forerun.kernels``: what each computes, and its phases."""
    import forerun.kernels

    modules = [
        importlib.import_module(f"forerun.kernels.{module.name}")
        for module in pkgutil.iter_modules(forerun.kernels.__path__)
        if not module.ispkg
    ]
    rows = [
        (
            f"`{module.KERNEL.name}`",
            inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
            ", ".join(f"`{phase.name}`" for phase in module.KERNEL.phases),
        )
        for module in modules
        if hasattr(module, "KERNEL")
    ]
    text = "Modules of `forerun.kernels`; [writing a kernel](writing-kernels.md) shows how they are made."
    return "\n".join(["# Kernels", "", text, "", *_table(("kernel", "what it computes", "phases"), rows)])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
