"""A cubin to machine instructions (SASS): nvdisasm, with the source lines of each, inlining included."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forerun.runtime.toolchain.errors import ToolchainMissing
from forerun.runtime.toolchain.instruction import Instruction
from forerun.runtime.toolchain.unit import own_name

__all__ = ["disassemble", "parse_listing"]

_SECTION = re.compile(r"\.text\.(\S+):|\s*\.section\s+\.text\.([^,\s]+),.*")
_LINE = re.compile(r'\s*//## File "([^"]*)", line (\d+)')
_LABEL = re.compile(r"(\S+):")
_INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+\{?\s*((?:@!?\w+\s+)?([A-Z][\w.]*)[^;]*);")
_INDIRECT = re.compile(r"\b(?:BRX|JMX)")
_TARGET = re.compile(r"`\((\S+)\)")
_TARGETS = re.compile(r'"BRANCH_TARGETS ([^"]*)"')


def disassemble(code: bytes, tool: Path, symbol: int | None = None) -> str:
    """The listing of a cubin, as :func:`parse_listing` reads it.

    Args:
        code: The cubin.
        tool: Where nvdisasm is.
        symbol: The number of one function (:func:`~forerun.runtime.toolchain.elf.symbol_index`); by default all.

    Raises:
        ToolchainMissing: If nvdisasm cannot be run, or does not know this kind of cubin.
    """
    with tempfile.TemporaryDirectory(prefix="forerun-") as folder:
        read = Path(folder, "unit.cubin")
        read.write_bytes(code)
        line: list[str | Path] = [tool, "--print-code", "--print-line-info-inline", read]
        line += [] if symbol is None else ["--cuda-function-index", str(symbol)]
        # Its analysis takes a quarter of the time, and finds where indirect branches go to: most code has none.
        listing = _run([*line, "--no-dataflow"], read)
        return _run(line, read) if _INDIRECT.search(listing) else listing


def _run(line: Sequence[str | Path], read: Path) -> str:
    try:
        done = subprocess.run(line, cwd=read.parent, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ToolchainMissing(f"cannot run {line[0]}: {error.strerror or error}") from error
    if done.returncode != 0:
        raise ToolchainMissing("nvdisasm cannot read a cubin", hint=done.stderr.strip().replace(str(read), "the cubin"))
    return done.stdout


@dataclass(slots=True)
class _Section:
    """A kernel's lines, as they are read."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)


def parse_listing(text: str, names: Sequence[str] = ()) -> Mapping[str, tuple[Instruction, ...]]:
    r"""The instructions of each kernel in a listing of ``nvdisasm --print-code --print-line-info-inline``.

    Paths that end in one of ``names``, those of the texts that were compiled, are told by it.

    Example:
        >>> text = '.text.k:\n //## File "/tmp/k.cu", line 7\n  /*0000*/  ACQBULK ;\n'
        >>> parse_listing(text, ["k.cu"])["k"][0].source
        (('k.cu', 7),)
    """
    sections: dict[str, _Section] = {}
    section = _Section()
    source: list[tuple[str, int]] = []
    is_inlined = False
    for line in text.splitlines():
        place = _LINE.match(line)
        if place is not None:
            here = (own_name(place[1], names), int(place[2]))
            source = [*source, here] if is_inlined else [here]
        elif opening := _SECTION.fullmatch(line):
            section, source = sections.setdefault(opening[1] or opening[2], _Section()), []
        elif label := _LABEL.fullmatch(line):
            section.unplaced.append(label[1])
        elif match := _INSTRUCTION.match(line):
            _add(section, match, tuple(source))
        # The line of the place that it is inlined at follows.
        is_inlined = place is not None and "inlined at" in line
    return {name: tuple(_placed(section)) for name, section in sections.items()}


def _add(section: _Section, match: re.Match[str], source: tuple[tuple[str, int], ...]) -> None:
    offset = int(match[1], 16)
    section.labels.update(dict.fromkeys(section.unplaced, offset))
    section.unplaced.clear()
    section.instructions.append(Instruction(offset, match[3], " ".join(match[2].split()), source))


def _placed(section: _Section) -> Iterator[Instruction]:
    """The instructions, their targets as offsets."""
    for found in section.instructions:
        if "`" not in found.text and "BRANCH_TARGETS" not in found.text:
            yield found
            continue
        named = _TARGET.findall(found.text)
        named += [label.strip() for labels in _TARGETS.findall(found.text) for label in labels.split(",")]
        targets = tuple(section.labels[label] for label in named if label in section.labels)
        yield Instruction(found.offset, found.opcode, found.text, found.source, targets)
