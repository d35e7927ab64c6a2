"""Dumps: the graph after each pass that changed it, what it changed, and the summary, as files of a folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from forerun.ir.text import diff_graphs, print_graph
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.infra.summary import Summary
from forerun.passes.instrument.base import Instrument
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import require_writable_folder, write_whole
from forerun.support.json_reader import read_json

__all__ = ["SUMMARY_FILE", "Dump"]

SUMMARY_FILE = "summary.json"


class Dump(Instrument):
    """Writes ``00-input.fir``, ``01-pass.fir``, ``01-pass.diff``, ..., ``summary.json`` to a folder.

    The folder is made if it does not exist. A pass that changed nothing leaves no file; its number stays free, and the
    summary names the file that holds its graph. The graph of a pass that failed is ``03-pass.FAILED.fir``. Files that
    an earlier run wrote to the folder (its summary names them) are removed first; other files are left alone.
    """

    order: ClassVar[int] = 0

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def before_pipeline(self, run: PipelineRun) -> None:
        """Check the folder before any work is done, clear it, and write the input."""
        require_writable_folder(self.folder)
        _remove_earlier_dump(self.folder)
        run.summary.dump = self.folder
        run.summary.files.append(SUMMARY_FILE)
        run.graph_files[0] = self._write(run, f"{run.number(0)}-input.fir", print_graph(run.graph))
        self.rewrite_summary(run.summary)

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Write the graph and the difference, before anybody judges them."""
        if step.changed and step.after is not None:
            stem = _stem(run, step)
            earlier = run.file_before(step.ordinal)
            path = self._write(run, f"{stem}.fir", print_graph(step.after))
            run.graph_files[step.ordinal] = path
            labels = (earlier.name if earlier else "before", path.name)
            difference = self._write(run, f"{stem}.diff", diff_graphs(step.before, step.after, labels=labels))
            step.record.files["diff"] = difference.name
            self.rewrite_summary(run.summary)  # in case the process dies in what comes next
        self._name_graph_file(run, step)

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Mark the graph that the pass returned, if it did."""
        path = run.graph_files.pop(step.ordinal, None)
        if path is not None:
            failed = path.with_name(f"{_stem(run, step)}.FAILED.fir")
            try:
                os.replace(path, failed)
            except OSError as error:
                raise InvalidInput(f"cannot write '{failed}': {error.strerror or error}") from error
            run.summary.files[run.summary.files.index(path.name)] = failed.name
            step.record.files["graph"] = failed.name
        self.rewrite_summary(run.summary)

    def pass_skipped(self, run: PipelineRun, step: PassRun) -> None:
        """Record it."""
        self._name_graph_file(run, step)

    def after_pipeline(self, run: PipelineRun) -> None:
        """Write the final summary."""
        self.rewrite_summary(run.summary)

    def _name_graph_file(self, run: PipelineRun, step: PassRun) -> None:
        path = run.file_before(step.ordinal + 1)
        if path is not None:
            step.record.files["graph"] = path.name

    def _write(self, run: PipelineRun, name: str, text: str) -> Path:
        path = self.folder / name
        write_whole(path, text)
        run.summary.files.append(name)
        return path

    @staticmethod
    def note_interruption(summary: Summary) -> None:
        """Say in the summary, and in its file if there is one, that somebody pressed Ctrl-C."""
        summary.status = "interrupted"
        Dump.rewrite_summary(summary)

    @staticmethod
    def rewrite_summary(summary: Summary) -> None:
        """Write the summary of a dumped run to its folder, again if something was added to it."""
        if summary.dump is not None:
            write_whole(summary.dump / SUMMARY_FILE, json.dumps(summary.to_json(), indent=1) + "\n")


def _stem(run: PipelineRun, step: PassRun) -> str:
    return f"{run.number(step.ordinal)}-{step.subject.name}"


def _remove_earlier_dump(folder: Path) -> None:
    try:
        names = read_json(folder / SUMMARY_FILE, follow=False).list_of("files", str)
    except InvalidInput:
        return  # no summary, or not one of ours: nothing here is known to be an earlier dump
    for name in names:
        # Only plain names of this folder: a summary that somebody edited must not delete files elsewhere.
        if name == Path(name).name and name.endswith((".fir", ".diff", ".json")):
            with suppress(OSError, ValueError):  # a folder, or a name that no file can have: not of an earlier dump
                (folder / name).unlink(missing_ok=True)
