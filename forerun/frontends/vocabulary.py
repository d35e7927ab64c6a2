"""The vocabulary that a GGUF file holds: tokens, kinds, and the tokens that begin and end a text."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile

__all__ = ["Kind", "Vocabulary", "read_vocabulary"]

_PREFIX = "tokenizer.ggml."
_NO_TOKEN = (-1, 2**32 - 1)
"""What converters write for "there is none"."""
_DEFAULT_BOS = (1, "<s>")
"""Token and text where the kind ``llama`` has its first token unless the file says otherwise (llama.cpp's default)."""
_DEFAULT_EOS = (2, "</s>")
_DEFAULT_UNKNOWN = (0, "<unk>")

_END_ROLES = ("eot", "eom")
"""Roles besides ``eos`` whose tokens end generation: ``tokenizer.ggml.ROLE_token_id``."""

# Those that llama.cpp knows (``llama_vocab_is_eog``), asked one by one.
_END_TEXTS = """
    </s> <EOT> <\uff5cend\u2581of\u2581sentence\uff5c> <end_of_turn> <end_of_utterance> <eos> <turn|> <|calls|>
    <|call|> <|end_of_text|> <|endoftext|> <|end|> <|eom_id|> <|eot_id|> <|flush|> <|im_end|> <|return|>
    <|tool_response> [EOS] [EOT] [e~[ _<EOT>
"""
# Of models that fill in the middle: padding, and where another file or repository begins.
_FILL_TEXTS = """
    <PAD> <REPO> <fim-pad> <fim-repo> <fim_pad> <reponame> <|file_sep|> <|fim_pad|> <|fim_repo|> <|repo_name|> [PAD]
"""
END_TEXTS = frozenset((_END_TEXTS + _FILL_TEXTS).split())
"""Texts of tokens that end a text, a turn or a message, and so generation."""


class Kind(enum.IntEnum):
    """What a token is for; the values of ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


SPECIAL = frozenset({Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED})
"""Kinds that are recognised in a prompt by their text, before all else."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The vocabulary of a file, checked.

    Attributes:
        tokens: Text by number.
        kinds: What each token is for.
        unknown: The token for what the vocabulary cannot express, or ``None``.
        bos: The token that begins every prompt, or ``None``.
        ends: The tokens at which generation stops.
    """

    tokens: list[str]
    kinds: list[Kind]
    unknown: int | None
    bos: int | None
    ends: frozenset[int]

    def __iter__(self) -> Iterator[tuple[str, Kind]]:
        """Text and kind of each token."""
        return zip(self.tokens, self.kinds, strict=True)

    def numbers(self, kinds: Collection[Kind] = frozenset(Kind)) -> dict[str, int]:
        """Number by text, of the tokens of some kinds. Tokens without text are left out."""
        return {text: number for number, (text, kind) in enumerate(self) if text and kind in kinds}

    def specials(self) -> list[tuple[str, int]]:
        """Texts that are recognised in a prompt, longest first (in bytes, as llama.cpp), with their tokens."""
        return sorted(self.numbers(SPECIAL).items(), key=lambda pair: (-len(pair[0].encode()), pair[1]))


def read_vocabulary(file: GgufFile, *, model: str, begins: bool) -> Vocabulary:
    """Read and check the vocabulary of a file whose tokenizer is of the kind ``model``: ``gpt2`` or ``llama``.

    ``begins``: prompts begin with a token of the model's own unless the file says no.

    Raises:
        InvalidInput: If a key is missing or wrong, or tokens are there twice.
    """
    tokens = file.texts(f"{_PREFIX}tokens")
    if not tokens:
        raise file.error(f"key '{_PREFIX}tokens' is empty")
    kinds = _read_kinds(file, tokens, model)
    _refuse_duplicates(file, tokens, kinds)
    unknown = _role(file, "unknown", tokens, kinds, _DEFAULT_UNKNOWN if model == "llama" else None)
    bos = _read_bos(file, tokens, kinds, model, begins=begins)
    ends = _read_ends(file, tokens, kinds, model)
    for number in ends:
        # Some files call them normal or user-defined; llama.cpp makes control tokens of them, too.
        kinds[number] = Kind.CONTROL
    return Vocabulary(tokens, kinds, unknown, bos, ends)


def _read_kinds(file: GgufFile, tokens: Sequence[str], model: str) -> list[Kind]:
    key = f"{_PREFIX}token_type"
    if key not in file.metadata:
        return [_kind_by_text(text, model) for text in tokens]
    numbers = file.integers(key)
    if len(numbers) != len(tokens):
        raise file.error(f"key '{key}' has {len(numbers)} entries for {len(tokens)} tokens")
    known = {int(kind) for kind in Kind}
    for token, number in enumerate(numbers):
        if number not in known:
            raise file.error(f"key '{key}': token {token} has the unknown type {number}", "types are 1 to 6")
    return [Kind(number) for number in numbers]


def _kind_by_text(text: str, model: str) -> Kind:
    """The kind of a token in a file without types."""
    if model != "llama":
        return Kind.NORMAL
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return Kind.BYTE
    by_text = {"<unk>": Kind.UNKNOWN, "<s>": Kind.CONTROL, "</s>": Kind.CONTROL}
    return by_text.get(text, Kind.NORMAL)


def _refuse_duplicates(file: GgufFile, tokens: Sequence[str], kinds: Sequence[Kind]) -> None:
    first: dict[str, int] = {}
    for number, (text, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if not text or kind is Kind.UNUSED:
            continue
        if text in first:
            raise file.error(
                f"key '{_PREFIX}tokens': tokens {first[text]} and {number} are both {text!r}",
                "a text must have one token; the file is damaged or was not converted correctly",
            )
        first[text] = number


# Tokens with a role


def _token_id(file: GgufFile, role: str, size: int) -> int | None:
    """The token under the key of a role; ``None`` if there is no such key, or it says that there is none."""
    key = f"{_PREFIX}{role}_token_id"
    if key not in file.metadata or file.metadata[key] in _NO_TOKEN:
        return None
    token = file.integer(key)
    if token >= size:
        raise file.error(f"key '{key}' is {token}, but there are {size} tokens")
    return token


def _role(
    file: GgufFile, role: str, tokens: Sequence[str], kinds: Sequence[Kind], default: tuple[int, str] | None
) -> int | None:
    """The token of a role, or the one that the kind of tokenizer has for it, if that looks like it."""
    if f"{_PREFIX}{role}_token_id" in file.metadata or default is None:
        return _token_id(file, role, len(tokens))
    number, text = default
    if number < len(tokens) and (kinds[number] in (Kind.CONTROL, Kind.UNKNOWN) or tokens[number] == text):
        return number
    return None


def _read_bos(file: GgufFile, tokens: Sequence[str], kinds: Sequence[Kind], model: str, *, begins: bool) -> int | None:
    if not file.boolean(f"{_PREFIX}add_bos_token", begins):
        return None
    bos = _role(file, "bos", tokens, kinds, _DEFAULT_BOS if model == "llama" else None)
    if bos is None and f"{_PREFIX}bos_token_id" not in file.metadata:
        raise file.error(
            f"prompts begin with a token of the model's own, but key '{_PREFIX}bos_token_id' is missing",
            f"convert the model again, or set '{_PREFIX}add_bos_token' to false with gguf-set-metadata",
        )
    return bos


def _read_ends(file: GgufFile, tokens: Sequence[str], kinds: Sequence[Kind], model: str) -> frozenset[int]:
    """By role, and by text whatever the file says of its type: converters forget either."""
    ends = {_token_id(file, role, len(tokens)) for role in _END_ROLES}
    ends.add(_role(file, "eos", tokens, kinds, _DEFAULT_EOS if model == "llama" else None))
    ends |= {number for number, text in enumerate(tokens) if text in END_TEXTS}
    return frozenset(number for number in ends if number is not None)
