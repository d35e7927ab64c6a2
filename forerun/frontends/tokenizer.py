"""The tokenizer that a GGUF file holds, on Hugging Face's ``tokenizers``, with a streaming decoder.

Byte-level BPE (``tokenizer.ggml.model`` is ``gpt2``) and SentencePiece BPE (``llama``) are known. How byte-level text
is split before merging is not in the file but named there (``tokenizer.ggml.pre``); the regular expressions for the
names are those of llama.cpp's ``llm_tokenizer_bpe``.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forerun.ir.diagnostics import InvalidInput, did_you_mean

if TYPE_CHECKING:
    import tokenizers

    from forerun.frontends.gguf import GgufFile

__all__ = ["TextStream", "Tokenizer"]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_SPACE = "\u2581"
_LONGEST_PIECE = 512

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_SPLITS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "starcoder": (r"\p{N}", _GPT2),
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "llama-v3": (_LLAMA3,),
    "qwen2": (_LLAMA3.replace("{1,3}", ""),),
}
_LLAMA3_NAMES = frozenset({"llama-bpe", "llama3", "llama-v3"})
_END_TEXTS = frozenset(
    {"<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "</s>"}
)


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The vocabulary of a file, checked."""

    tokens: list[str]
    types: list[int]
    unknown: int | None

    @property
    def ids(self) -> dict[str, int]:
        """Number by text; the first, if a text occurs twice."""
        found: dict[str, int] = {}
        for number, text in enumerate(self.tokens):
            found.setdefault(text, number)
        return found


class Tokenizer:
    """Text to tokens and back.

    Attributes:
        size: Number of tokens.
        bos: The token that begins every prompt, or ``None``.
        ends: The tokens at which generation stops.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        pieces: Sequence[bytes],
        *,
        bos: int | None,
        ends: frozenset[int],
        prefixed: bool,
    ) -> None:
        self._backend = backend
        self._pieces = pieces
        self._prefixed = prefixed
        self.bos = bos
        self.ends = ends

    @classmethod
    def from_gguf(cls, file: GgufFile) -> Tokenizer:
        """The tokenizer of a GGUF file.

        Raises:
            InvalidInput: If a key is missing or wrong, or the kind of tokenizer is not known.
        """
        model = file.text("tokenizer.ggml.model")
        vocabulary = _read_vocabulary(file)
        if model == "gpt2":
            backend = _byte_level(file, vocabulary)
            pieces = [_byte_level_bytes(text) for text in vocabulary.tokens]
        elif model == "llama":
            backend = _sentence_piece(file, vocabulary)
            pieces = [_piece_bytes(*piece) for piece in zip(vocabulary.tokens, vocabulary.types, strict=True)]
        else:
            raise file.error(f"key 'tokenizer.ggml.model' is '{model}'", did_you_mean(model, ["gpt2", "llama"]))
        for number, kind in enumerate(vocabulary.types):
            if kind in (_CONTROL, _UNUSED):
                pieces[number] = b""
        _add_specials(backend, vocabulary)
        return cls(
            backend,
            pieces,
            bos=_read_bos(file, vocabulary, model),
            ends=_read_ends(file, vocabulary),
            prefixed=model == "llama" and _adds_space(file),
        )

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, begun by ``bos`` if the model wants that. Special tokens in the text are recognised.

        Raises:
            InvalidInput: If the text is not Unicode (lone surrogates).
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the prompt is not valid Unicode at character {error.start}") from error
        ids = self._backend.encode(text, add_special_tokens=False).ids
        return ids if self.bos is None else [self.bos, *ids]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens from the first on, without the space that encoding put there (if it does).

        Control tokens have no text; an incomplete character at the end is left out.
        """
        stream = TextStream(self)
        text = "".join(stream.push(token) for token in tokens)
        return text.removeprefix(" ") if self._prefixed else text

    def piece(self, token: int) -> bytes:
        """The bytes of one token, which need not be whole characters.

        Raises:
            InvalidInput: If there is no such token.
        """
        if not 0 <= token < self.size:
            raise InvalidInput(f"no token {token}", hint=f"the tokenizer has 0 to {self.size - 1}")
        return self._pieces[token]


class TextStream:
    """Decodes tokens one by one, and holds back bytes until they are whole characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The characters that the token completes, maybe none. Bytes that cannot be UTF-8 become U+FFFD."""
        return self._decoder.decode(self._tokenizer.piece(token))


# Reading the file


def _read_vocabulary(file: GgufFile) -> _Vocabulary:
    tokens = file.texts("tokenizer.ggml.tokens")
    if not tokens:
        raise file.error("key 'tokenizer.ggml.tokens' is empty")
    key = "tokenizer.ggml.token_type"
    types = file.integers(key) if key in file.metadata else [_NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise file.error(f"key '{key}' has {len(types)} entries for {len(tokens)} tokens")
    return _Vocabulary(tokens, types, _token_id(file, "tokenizer.ggml.unknown_token_id", len(tokens)))


def _token_id(file: GgufFile, key: str, size: int) -> int | None:
    """The token under ``key``, or ``None`` if there is no such key."""
    if key not in file.metadata:
        return None
    token = file.integer(key)
    # Converters write -1 or 2**32 - 1 for "none"; ``integer`` has refused the first.
    if token == 2**32 - 1:
        return None
    if token >= size:
        raise file.error(f"key '{key}' is {token}, but there are {size} tokens")
    return token


def _read_bos(file: GgufFile, vocabulary: _Vocabulary, model: str) -> int | None:
    wanted = model == "llama" or file.text("tokenizer.ggml.pre", "") in _LLAMA3_NAMES
    if not file.boolean("tokenizer.ggml.add_bos_token", wanted):
        return None
    return _token_id(file, "tokenizer.ggml.bos_token_id", len(vocabulary.tokens))


def _read_ends(file: GgufFile, vocabulary: _Vocabulary) -> frozenset[int]:
    keys = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    named = {_token_id(file, key, len(vocabulary.tokens)) for key in keys}
    known = {
        number
        for number, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind == _CONTROL and text in _END_TEXTS
    }
    return frozenset(token for token in named | known if token is not None)


# Byte-level BPE


def _byte_level(file: GgufFile, vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    from tokenizers import Regex, pre_tokenizers
    from tokenizers.models import BPE

    name = file.text("tokenizer.ggml.pre", "default")
    splits = _SPLITS.get(name)
    if splits is None:
        raise file.error(f"key 'tokenizer.ggml.pre': '{name}' is not known", did_you_mean(name, _SPLITS))
    ids = vocabulary.ids
    merges = [_merge(file, ids, text) for text in file.texts("tokenizer.ggml.merges")]
    model = BPE(vocab=ids, merges=merges, ignore_merges=name in _LLAMA3_NAMES)
    stages: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
    stages.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return _backend(model, pre_tokenizer=pre_tokenizers.Sequence(stages))


def _merge(file: GgufFile, ids: dict[str, int], text: str) -> tuple[str, str]:
    left, _, right = text.partition(" ")
    if left in ids and right in ids and left + right in ids:
        return left, right
    raise file.error(f"key 'tokenizer.ggml.merges': {text!r} does not join two tokens to a third")


@functools.cache
def _byte_alphabet() -> dict[str, bytes]:
    """Which byte each character of a byte-level token stands for (GPT-2's ``bytes_to_unicode``, inverted)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    return alphabet | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}


def _byte_level_bytes(text: str) -> bytes:
    # Tokens that were added by hand may hold other characters; they stand for themselves.
    alphabet = _byte_alphabet()
    return b"".join(alphabet.get(character) or character.encode() for character in text)


# SentencePiece BPE


def _sentence_piece(file: GgufFile, vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    from tokenizers import normalizers
    from tokenizers.models import BPE

    scores = file.numbers("tokenizer.ggml.scores")
    if len(scores) != len(vocabulary.tokens):
        raise file.error(f"key 'tokenizer.ggml.scores' has {len(scores)} entries for {len(vocabulary.tokens)} tokens")
    longest = max(map(len, vocabulary.tokens))
    if longest > _LONGEST_PIECE:
        raise file.error(f"key 'tokenizer.ggml.tokens' has a token of {longest} characters")
    unknown = None if vocabulary.unknown is None else vocabulary.tokens[vocabulary.unknown]
    merges = _merges_by_score(vocabulary, scores)
    model = BPE(vocab=vocabulary.ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    replace = normalizers.Replace(" ", _SPACE)
    if not _adds_space(file):
        return _backend(model, normalizer=replace)
    return _backend(model, normalizer=normalizers.Sequence([normalizers.Prepend(_SPACE), replace]))


def _adds_space(file: GgufFile) -> bool:
    return file.boolean("tokenizer.ggml.add_space_prefix", True)


def _merges_by_score(vocabulary: _Vocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """SentencePiece joins the pair whose result has the best score: every way to split a token, best tokens first."""
    ids = vocabulary.ids
    ranked: list[tuple[float, int, int, str, str]] = []
    for number, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if kind not in (_NORMAL, _USER_DEFINED) or ids[text] != number:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                ranked.append((-scores[number], ids[left], ids[right], left, right))
    return [(left, right) for _, _, _, left, right in sorted(ranked)]


def _piece_bytes(text: str, kind: int) -> bytes:
    if kind == _BYTE and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return bytes.fromhex(text[3:5])
        except ValueError:
            return b""
    return text.replace(_SPACE, " ").encode()


# Both


def _backend(
    model: tokenizers.models.Model,
    *,
    normalizer: tokenizers.normalizers.Normalizer | None = None,
    pre_tokenizer: tokenizers.pre_tokenizers.PreTokenizer | None = None,
) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Backend

    backend = Backend(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    return backend


def _add_specials(backend: tokenizers.Tokenizer, vocabulary: _Vocabulary) -> None:
    from tokenizers import AddedToken

    added = [
        AddedToken(text, special=kind == _CONTROL, normalized=False)
        for text, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if kind in (_CONTROL, _USER_DEFINED) and text
    ]
    backend.add_tokens(added)
