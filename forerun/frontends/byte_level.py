"""Byte-level BPE on Hugging Face's ``tokenizers``.

How text is split before merging is not in a GGUF file but named there (``tokenizer.ggml.pre``); the regular expressions
for the names are those of llama.cpp's ``llm_tokenizer_bpe``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forerun.frontends.vocabulary import Kind, Vocabulary
from forerun.support.diagnostics import InvalidInput, did_you_mean

if TYPE_CHECKING:
    import tokenizers

    from forerun.frontends.gguf import GgufFile

__all__ = ["ByteLevel", "begins_with_token", "byte_level_bytes", "read_byte_level", "spelled_in_bytes"]

_PRE, _MERGES = "tokenizer.ggml.pre", "tokenizer.ggml.merges"
_MOST_FOREIGN = 0.05
"""The share of normal tokens that may be spelled in other characters than those that stand for bytes."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_SPLITS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "starcoder": (r"\p{N}", _GPT2),
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "llama-v3": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "deepseek-r1-qwen": (_QWEN2,),
}
_LLAMA3_NAMES = frozenset({"llama-bpe", "llama3", "llama-v3"})


@dataclass(frozen=True, slots=True)
class ByteLevel:
    """Encodes text between special tokens, with the bytes of each token, and the bytes that are tokens of their own.

    ``unknown`` is the token for what is not in the vocabulary, or ``None``.
    """

    backend: tokenizers.Tokenizer
    lengths: list[int]
    bytes: frozenset[int]
    unknown: int | None

    def encode(self, text: str) -> list[int]:
        """The tokens of a text.

        Raises:
            InvalidInput: If a character needs a byte that the vocabulary does not have, and there is no unknown token.
        """
        found: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        # The backend leaves out what it cannot express.
        if sum(self.lengths[number] for number in found) == len(text.encode()):
            return found
        return self._encode_around(text)

    def _encode_around(self, text: str) -> list[int]:
        """With the unknown token for each run of characters that need missing bytes."""
        found: list[int] = []
        start = 0
        for at, character in enumerate(text):
            if self.bytes.issuperset(character.encode()):
                continue
            if self.unknown is None:
                raise InvalidInput(
                    f"the prompt holds {character!r} (U+{ord(character):04X}), which the model's vocabulary cannot "
                    "express",
                    hint="the vocabulary lacks a byte of it and has no unknown token; leave the character out",
                )
            if at > start or at == 0:
                found += self.backend.encode(text[start:at], add_special_tokens=False).ids
                found.append(self.unknown)
            start = at + 1
        found += self.backend.encode(text[start:], add_special_tokens=False).ids
        return found


def begins_with_token(file: GgufFile) -> bool:
    """Whether prompts begin with a token of the model's own unless the file says no."""
    return file.text(_PRE, "default") in _LLAMA3_NAMES


def read_byte_level(file: GgufFile, vocabulary: Vocabulary) -> ByteLevel:
    """The encoder for a file whose tokenizer is of the kind ``gpt2``.

    Raises:
        InvalidInput: If the vocabulary is not byte-level, or its way of splitting text is not known.
    """
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import BPE

    name = file.text(_PRE, "default")
    splits = _SPLITS.get(name)
    if splits is None:
        raise file.error(f"key '{_PRE}': '{name}' is not known", did_you_mean(name, _SPLITS))
    numbers = vocabulary.numbers()
    _require_byte_level(file, vocabulary, numbers)
    merges = [_merge(file, numbers, text) for text in dict.fromkeys(file.texts(_MERGES))]
    backend = Tokenizer(BPE(vocab=numbers, merges=merges, ignore_merges=name in _LLAMA3_NAMES))
    stages: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
    stages.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    backend.pre_tokenizer = pre_tokenizers.Sequence(stages)
    known = frozenset(byte for letter, byte in _alphabet().items() if letter in numbers)
    # Some files name their end token as the unknown one; a prompt must not end in its midst.
    unknown = None if vocabulary.unknown in {*vocabulary.ends, vocabulary.bos} else vocabulary.unknown
    lengths = [len(byte_level_bytes(text)) for text in vocabulary.tokens]
    return ByteLevel(backend, lengths, known, unknown)


def byte_level_bytes(text: str) -> bytes:
    """The bytes of a token. One that has other characters was added, and is text as it stands."""
    alphabet = _alphabet()
    if spelled_in_bytes(text):
        return bytes(alphabet[letter] for letter in text)
    return text.encode()


def spelled_in_bytes(text: str) -> bool:
    """Whether all characters of a token stand for bytes."""
    return _alphabet().keys() >= set(text)


@functools.cache
def _alphabet() -> dict[str, int]:
    """Which byte each character of a byte-level token stands for (GPT-2's ``bytes_to_unicode``, inverted)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _require_byte_level(file: GgufFile, vocabulary: Vocabulary, numbers: dict[str, int]) -> None:
    """Refuse vocabularies of other kinds: they would turn most text into something else."""
    hint = ""
    if "tokenizer.ggml.scores" in file.metadata:
        hint = "the file has scores, so its vocabulary may be SentencePiece's: 'tokenizer.ggml.model' would be 'llama'"
    if _MERGES not in file.metadata:
        raise file.error(
            f"key '{_MERGES}' is missing, which a vocabulary of the kind 'gpt2' needs",
            hint or "convert the model again with a current converter",
        )
    pairs = list(vocabulary)
    for number, (text, kind) in enumerate(pairs):
        if kind is Kind.BYTE:
            raise file.error(
                f"token {number}, {text!r}, is of the type BYTE, which the kind 'gpt2' does not have", hint
            )
    missing = [letter for letter in map(chr, range(33, 127)) if letter not in numbers] + ["\u0120"] * (
        "\u0120" not in numbers
    )
    if missing:
        raise file.error(
            f"key 'tokenizer.ggml.tokens' has no token for byte 0x{_alphabet()[missing[0]]:02X}",
            hint or "a byte-level vocabulary has a token for each printable character of ASCII",
        )
    normal = [text for text, kind in pairs if kind is Kind.NORMAL]
    foreign = [text for text in normal if not spelled_in_bytes(text)]
    if len(foreign) > _MOST_FOREIGN * len(normal):
        raise file.error(
            f"{len(foreign)} of {len(normal)} tokens, such as {foreign[0]!r}, are not spelled in byte-level characters",
            hint or "'tokenizer.ggml.model' may be wrong: 'gpt2' is byte-level, 'llama' is SentencePiece",
        )


def _merge(file: GgufFile, numbers: dict[str, int], text: str) -> tuple[str, str]:
    left, _, right = text.partition(" ")
    if left in numbers and right in numbers and left + right in numbers:
        return left, right
    raise file.error(f"key '{_MERGES}': {text!r} does not join two tokens to a third")
