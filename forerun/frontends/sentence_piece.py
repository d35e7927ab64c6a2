"""SentencePiece's BPE: the pair of neighbours whose join has the best score is joined first, the leftmost of equals.

After ``bpe_model.cc`` of SentencePiece and ``llm_tokenizer_spm`` of llama.cpp. ``tokenizers`` cannot express it: its
merges are ranked by pair, so of two pairs that make the same token, one would always win, wherever they stand.
"""

from __future__ import annotations

import heapq
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forerun.frontends.vocabulary import Kind, Vocabulary
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile

__all__ = ["SPACE", "SentencePiece", "byte_of", "read_sentence_piece"]

SPACE = "\u2581"
"""What stands for a space in tokens."""

_SCORES = "tokenizer.ggml.scores"
_JOINED = frozenset({Kind.NORMAL, Kind.USER_DEFINED, Kind.UNUSED})


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """Encodes text between special tokens.

    ``numbers`` are those of texts that joining can make, of which the one with the best score is joined first; unused
    tokens are taken apart again. There are byte tokens for all bytes, or none; ``unknown`` may be ``None``.
    """

    numbers: dict[str, int]
    scores: list[float]
    unused: frozenset[int]
    byte_tokens: tuple[int, ...]
    unknown: int | None

    def encode(self, text: str) -> list[int]:
        """The tokens of a text.

        Raises:
            InvalidInput: If a character is not in the vocabulary, which has neither bytes nor an unknown token.
        """
        found: list[int] = []
        for piece in self._joined(text.replace(" ", SPACE)):
            self._append(piece, found)
        return found

    def _append(self, piece: str, found: list[int]) -> None:
        number = self.numbers.get(piece)
        if number is not None:
            found.append(number)
        elif self.byte_tokens:
            found += [self.byte_tokens[byte] for byte in piece.encode()]
        elif self.unknown is None:
            raise InvalidInput(
                f"the prompt holds {piece!r} (U+{ord(piece):04X}), which the model's vocabulary cannot express",
                hint="the vocabulary has neither byte tokens nor an unknown token; leave the character out",
            )
        elif not found or found[-1] != self.unknown:
            # A run of unknown characters is one unknown token.
            found.append(self.unknown)

    def _joined(self, text: str) -> list[str]:
        """The pieces that are left when nothing can be joined any more."""
        pieces = list(text)
        left, right = list(range(-1, len(text) - 1)), list(range(1, len(text) + 1))
        heap: list[tuple[float, int, int, str]] = []
        parts: dict[str, tuple[str, str]] = {}

        def offer(first: int, second: int) -> None:
            if first < 0 or second >= len(pieces):
                return
            joined = pieces[first] + pieces[second]
            number = self.numbers.get(joined)
            if number is not None:
                heapq.heappush(heap, (-self.scores[number], first, second, joined))
                if number in self.unused:
                    parts.setdefault(joined, (pieces[first], pieces[second]))

        for first in range(len(pieces) - 1):
            offer(first, first + 1)
        while heap:
            _, first, second, joined = heapq.heappop(heap)
            # One of the two may have become another piece, or part of one, since they were offered.
            if not pieces[first] or right[first] != second or pieces[first] + pieces[second] != joined:
                continue
            pieces[first], pieces[second] = joined, ""
            right[first] = right[second]
            if right[second] < len(pieces):
                left[right[second]] = first
            offer(left[first], first)
            offer(first, right[first])
        whole = [piece for piece in pieces if piece]
        return [part for piece in whole for part in _apart(piece, parts)] if parts else whole


def _apart(piece: str, parts: dict[str, tuple[str, str]]) -> list[str]:
    """An unused token in the parts that it was joined from; any other as it is."""
    found: list[str] = []
    waiting = [piece]
    while waiting:
        piece = waiting.pop()
        if piece in parts:
            waiting += reversed(parts[piece])
        else:
            found.append(piece)
    return found


def read_sentence_piece(file: GgufFile, vocabulary: Vocabulary) -> SentencePiece:
    """The encoder for a file whose tokenizer is of the kind ``llama``.

    Raises:
        InvalidInput: If the vocabulary is not one of SentencePiece.
    """
    scores = _read_scores(file, len(vocabulary.tokens))
    numbers = vocabulary.numbers(_JOINED)
    unused = frozenset(number for number, kind in enumerate(vocabulary.kinds) if kind is Kind.UNUSED)
    return SentencePiece(numbers, scores, unused, _byte_tokens(file, vocabulary), vocabulary.unknown)


def byte_of(text: str) -> int | None:
    """The byte that a token such as ``<0x0A>`` stands for, or ``None``."""
    found = re.fullmatch("<0x([0-9A-Fa-f]{2})>", text)
    return None if found is None else int(found[1], 16)


def _read_scores(file: GgufFile, count: int) -> list[float]:
    if _SCORES not in file.metadata and "tokenizer.ggml.merges" in file.metadata:
        raise file.error(
            f"key '{_SCORES}' is missing, which a vocabulary of the kind 'llama' needs",
            "the file has merges, so its vocabulary may be byte-level: 'tokenizer.ggml.model' would be 'gpt2'",
        )
    scores = file.numbers(_SCORES)
    if len(scores) != count:
        raise file.error(f"key '{_SCORES}' has {len(scores)} entries for {count} tokens")
    for token, score in enumerate(scores):
        if not math.isfinite(score):
            raise file.error(f"key '{_SCORES}': the score of token {token} is {score}")
    return scores


def _byte_tokens(file: GgufFile, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Token by byte; empty if the vocabulary has none."""
    found: dict[int, int] = {}
    for number, (text, kind) in enumerate(vocabulary):
        if kind is not Kind.BYTE:
            continue
        byte = byte_of(text)
        if byte is None:
            raise file.error(f"token {number} is of the type BYTE, but {text!r} is not like '<0x0A>'")
        found[byte] = number
    if found and len(found) < 256:
        missing = next(byte for byte in range(256) if byte not in found)
        message = f"key 'tokenizer.ggml.tokens' has {len(found)} of 256 byte tokens: <0x{missing:02X}> is missing"
        raise file.error(message, "a vocabulary has all byte tokens or none; convert the model again")
    return tuple(found[byte] for byte in range(256)) if found else ()
