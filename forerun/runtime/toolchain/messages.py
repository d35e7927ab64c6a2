"""What NVRTC and ptxas say, as diagnostics that point into the source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from forerun.support.diagnostics import Diagnostic, Location, Severity

__all__ = ["nvrtc_diagnostics", "ptxas_diagnostics", "without_other_files"]

_NVRTC = re.compile(
    r"(?P<file>[^\n]+?)\((?P<line>\d+)\): (?P<kind>catastrophic error|error|warning|remark)"
    r"(?: #(?P<number>\d+)(?:-D)?)?: (?P<message>.*)"
)
_PTXAS = re.compile(r"ptxas (?:[^\n]*?, line (?P<line>\d+); )?(?P<kind>error|fatal|warning)\s*: (?P<message>.*)")
_LOC = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)")
_FILE = re.compile(r'\s*\.file\s+(\d+)\s+"([^"]*)"', re.MULTILINE)
_WORD = re.compile(r"\w+")
_SEPARATOR = re.compile(r"[/\\]")
_INDENT = 2


def without_other_files(log: str, texts: Mapping[str, str], include: Sequence[Path]) -> str:
    """A log of NVRTC without what it says of files that are neither the unit's nor CUDA's: it quotes their lines.

    Such files are refused before (:mod:`forerun.runtime.toolchain.includes`); this is what holds if one gets through.
    """
    kept: list[str] = []
    is_shown = True
    for line in log.splitlines():
        match = _NVRTC.fullmatch(line)
        if match is not None:
            is_shown = _may_be_shown(match["file"], texts, include)
            if not is_shown:
                place, kind = f"another file({match['line']})", match["kind"]
                kept.append(f"{place}: {kind}: it is not part of the unit, so its words are not shown")
        elif not line.strip():
            is_shown = True
        if is_shown:
            kept.append(line)
    return "\n".join(kept)


def _may_be_shown(file: str, texts: Mapping[str, str], include: Sequence[Path]) -> bool:
    # What NVRTC brings itself has a name without a folder. Files of the current folder could have one, too, but
    # NVRTC does not look there (--no-source-include).
    if file in texts or not _SEPARATOR.search(file):
        return True
    path = PurePath(file)
    return ".." not in path.parts and any(path.is_relative_to(folder) for folder in include)


def nvrtc_diagnostics(log: str, texts: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """The errors and warnings of a log: each is a head, a line with a caret below it, further words, an empty line."""
    return tuple(_of_nvrtc(head, rest, texts) for head, rest in _blocks(log))


def _blocks(log: str) -> Iterator[tuple[re.Match[str], Sequence[str]]]:
    """Each message's head, and the lines that belong to it."""
    head: re.Match[str] | None = None
    rest: list[str] = []
    for line in log.splitlines():
        match = _NVRTC.fullmatch(line)
        if head is not None and (match is not None or not line.strip()):
            yield head, rest
            head = None
        if match is not None:
            head, rest = match, []
        elif head is not None:
            rest.append(line)
    if head is not None:
        yield head, rest


def _of_nvrtc(head: re.Match[str], rest: Sequence[str], texts: Mapping[str, str]) -> Diagnostic:
    caret = next((index for index, line in enumerate(rest) if line.strip() == "^"), None)
    column = 1 if caret is None else max(rest[caret].index("^") - _INDENT + 1, 1)
    words = rest if caret is None else [*rest[: max(caret - 1, 0)], *rest[caret + 1 :]]
    number = f"-{head['number']}" if head["number"] else ""
    severity = Severity.ERROR if head["kind"].endswith("error") else Severity.WARNING
    location = _location(head["file"], int(head["line"]), column, texts)
    message = " ".join([head["message"], *(word.strip() for word in words)]).strip()
    return Diagnostic(f"nvrtc{number}", message, location, severity=severity)


def ptxas_diagnostics(
    log: str, ptx: str, unit: str, texts: Mapping[str, str], *, worst: Severity = Severity.WARNING
) -> tuple[Diagnostic, ...]:
    """The errors and warnings of a log, at the lines of the source, as far as the PTX tells them.

    The PTX itself may be among the texts, as ``UNIT.ptx``. ``worst=ERROR`` leaves warnings out.
    """
    found = []
    for match in _PTXAS.finditer(log):
        severity = Severity.WARNING if match["kind"] == "warning" else Severity.ERROR
        if severity is Severity.WARNING and worst is Severity.ERROR:
            continue
        where = _source_of(int(match["line"]), ptx, unit, texts) if match["line"] else Location("unit", unit)
        found.append(Diagnostic("ptxas", match["message"].strip(), where, severity=severity))
    return tuple(found)


def _source_of(number: int, ptx: str, unit: str, texts: Mapping[str, str]) -> Location:
    """The place in the source that a line of the PTX was made for; the line of the PTX, if that is not known."""
    files = dict(_FILE.findall(ptx))
    for line in reversed(ptx.splitlines()[:number]):
        match = _LOC.match(line)
        if match is not None:
            return _location(files.get(match[1], "?"), int(match[2]), int(match[3]), texts)
        if line.startswith((".visible", ".entry", ".func")):
            break
    return _location(f"{unit}.ptx", number, 1, texts)


def _location(file: str, line: int, column: int, texts: Mapping[str, str]) -> Location:
    lines = texts.get(file, "").splitlines()
    if not 1 <= line <= len(lines):
        return Location("file", f"{file}:{line}")
    word = _WORD.match(lines[line - 1], column - 1)
    return Location("text", file, line, column, len(word[0]) if word else 1)
