"""Blocks of statements: where each begins and ends, and how the parse goes on after an error in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from forerun.ir.text.lexer import END, Fault
from forerun.ir.text.reader import Reader
from forerun.ir.text.spelling import MAX_ERRORS
from forerun.support.diagnostics import Diagnostic, Location, Severity, did_you_mean

__all__ = ["GRAPH_KEYWORDS", "Block", "BlockReader", "Stopped"]

_RENAMED = {"takes": "uses", "gives": "defines"}
"""Clauses of phases that older files spell otherwise."""

GRAPH_KEYWORDS = frozenset({"alloc", "buffer", "kernel", "node", "dep"})
"""What begins the statements of a graph; ``after`` belongs to the node before it."""

_UNINDENTED = re.compile(rf"\n({'|'.join(sorted(GRAPH_KEYWORDS))})\b")


class Stopped(Exception):
    """Ends the parse: after a fault beyond repair, or after too many errors."""


@dataclass
class Block:
    """Statements up to a closing brace, or up to the end of the text.

    Attributes:
        title: What it is the body of, in messages; empty for the whole text.
        opened: The number of the token that names it.
        statements: What parses the statement that each keyword begins.
        outer: The keywords of the blocks around it.
    """

    title: str
    opened: int
    statements: Mapping[str, Callable[[], None]]
    outer: frozenset[str] = frozenset()

    @property
    def resumed(self) -> frozenset[str]:
        """Where the parse may go on after an error: keywords of the block and of those around it, and its brace."""
        return self.outer.union(self.statements, {"}"} if self.title else ())


class BlockReader(Reader):
    """Collects diagnostics over statements: the errors so far, and notes to them."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text, name)
        self.diagnostics: list[Diagnostic] = []

    def block(self, block: Block) -> None:
        """Parse the statements of a block, and its closing brace."""
        statements = block.statements
        while True:
            start = self.statement = self.ordinal
            statement = statements.get(self.token)
            try:
                if statement is not None:
                    statement()
                elif self._ends(block):
                    return
                else:
                    self._unknown_statement(block)
            except Fault as fault:
                self.record(fault)
                self._resume(self.span(start)[0], fault.offset, block.resumed)
                if block.title and self.token not in statements and self.token != "}":
                    return

    def _ends(self, block: Block) -> bool:
        """Whether the block ends here. One that is still open when another's statement begins ends with an error."""
        if not block.title:
            return self.token == END
        if self.accept("}"):
            return True
        if self.token != END and self.token not in block.outer:
            return False
        line = self.line_of(self.span(block.opened)[0])
        message = f"'}}' is missing: {block.title} (line {line}) is still open"
        self.add(Diagnostic("P8", message, self._place(self.ordinal)))
        if self.token == END:
            raise Stopped
        return True

    def _unknown_statement(self, block: Block) -> None:
        if self.token == "}":
            self.fault_at(self.ordinal, "P8", "'}' closes nothing")
        if not (self.token.isascii() and self.token[:1].isalpha()):
            self.fail(f"a statement ({', '.join(block.statements)})")
        renamed = _RENAMED.get(self.token)
        hint = f"it is called '{renamed}' now" if renamed else did_you_mean(self.token, block.statements)
        self.fault_at(self.ordinal, "P6", f"unknown statement '{self.token}'", hint)

    # Errors

    def record(self, fault: Fault) -> None:
        """Keep a diagnostic; ends the parse if the fault is fatal."""
        self.add(fault.diagnostic)
        if fault.fatal:
            raise Stopped

    def add(self, diagnostic: Diagnostic) -> None:
        """Keep a diagnostic; ends the parse if it is one too many."""
        self.diagnostics.append(diagnostic)
        errors = sum(found.severity is Severity.ERROR for found in self.diagnostics)
        if errors >= MAX_ERRORS:
            self.diagnostics.append(
                replace(diagnostic, code="P9", message="too many errors; the rest is not read", severity=Severity.NOTE)
            )
            raise Stopped

    def duplicate(self, what: str, name: str, ordinal: int, first: int, hint: str = "") -> None:
        """Report a name that is declared twice, with both places; the second declaration is dropped."""
        place, first_place = self._place(ordinal), self._place(first)
        message = f"{what} {name} is declared twice; first in line {first_place.line}"
        self.add(Diagnostic("P7", message, place, hint))
        self.diagnostics.append(Diagnostic("P7", f"{what} {name} was declared here", first_place, "", Severity.NOTE))

    def _place(self, ordinal: int) -> Location:
        return self.location(*self.span(ordinal))

    def _resume(self, start: int, fault: int, resumed: frozenset[str]) -> None:
        """Go to the next statement after a fault, by the keywords at which the parse may go on."""
        depth = 0
        for offset, token in self.tokens_from(start):
            follows = depth == 0 and offset > start and offset >= fault and token in resumed
            if follows and (token == "}" or self.begins_line(offset)):
                self.seek(offset)
                return
            depth = depth + 1 if token == "{" else max(depth - 1, 0) if token == "}" else depth
        self._resume_at_top(max(fault, start + 1))

    def _resume_at_top(self, offset: int) -> None:
        """The braces do not match: go on at the next line that begins with a statement of a graph, unindented."""
        match = _UNINDENTED.search(self.text, offset)
        self.seek(match.start(1) if match else len(self.text))
