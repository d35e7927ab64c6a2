"""The tokenizer that a GGUF file holds, with a streaming decoder.

Byte-level BPE (``tokenizer.ggml.model`` is ``gpt2``) and SentencePiece BPE (``llama``) are known. Special tokens are
looked for first, the longest first, wherever they stand (llama.cpp's ``tokenizer_st_partition``); what is between them
is encoded piece by piece.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from forerun.frontends.byte_level import begins_with_token, byte_level_bytes, read_byte_level, spelled_in_bytes
from forerun.frontends.sentence_piece import SPACE, byte_of, read_sentence_piece
from forerun.frontends.vocabulary import Kind, Vocabulary, read_vocabulary
from forerun.support.diagnostics import InvalidInput, did_you_mean

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile

__all__ = ["TextStream", "Tokenizer"]


class _Encoder(Protocol):
    """Encodes text without special tokens."""

    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Text to tokens and back.

    Attributes:
        size: Number of tokens.
        bos: The token that begins every prompt, or ``None``.
        ends: The tokens at which generation stops.
        specials: Texts that are recognised in a prompt before all else, longest first, with their tokens.
    """

    def __init__(self, encoder: _Encoder, pieces: Sequence[bytes], vocabulary: Vocabulary, *, prefixed: bool) -> None:
        self._encoder = encoder
        self._pieces = pieces
        self._prefixed = prefixed
        self.specials = vocabulary.specials()
        self.bos = vocabulary.bos
        self.ends = vocabulary.ends

    @classmethod
    def from_gguf(cls, file: GgufFile) -> Tokenizer:
        """The tokenizer of a GGUF file.

        Raises:
            InvalidInput: If a key is missing or wrong, the kind of tokenizer is not known, or the vocabulary is not of
                that kind.
        """
        model = file.text("tokenizer.ggml.model")
        if model == "gpt2":
            return cls._byte_level(file)
        if model == "llama":
            return cls._sentence_piece(file)
        raise file.error(f"key 'tokenizer.ggml.model' is '{model}'", did_you_mean(model, ["gpt2", "llama"]))

    @classmethod
    def _byte_level(cls, file: GgufFile) -> Tokenizer:
        vocabulary = read_vocabulary(file, model="gpt2", begins=begins_with_token(file))
        encoder = read_byte_level(file, vocabulary)
        for number, text in enumerate(vocabulary.tokens):
            if vocabulary.kinds[number] is Kind.NORMAL and not spelled_in_bytes(text):
                # It was added by hand. No merge can make it, so it is looked for like others that were added.
                vocabulary.kinds[number] = Kind.USER_DEFINED
        pieces = [_piece(text, kind, byte_level_bytes(text)) for text, kind in vocabulary]
        return cls(encoder, pieces, vocabulary, prefixed=False)

    @classmethod
    def _sentence_piece(cls, file: GgufFile) -> Tokenizer:
        vocabulary = read_vocabulary(file, model="llama", begins=True)
        encoder = read_sentence_piece(file, vocabulary)
        pieces = [_piece(text, kind, text.replace(SPACE, " ").encode()) for text, kind in vocabulary]
        prefixed = file.boolean("tokenizer.ggml.add_space_prefix", True)
        return cls(encoder, pieces, vocabulary, prefixed=prefixed)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, begun by ``bos`` if the model wants that. Special tokens in the text are recognised.

        Raises:
            InvalidInput: If the text is not Unicode (lone surrogates), or holds a character that the vocabulary cannot
                express: no character is left out in silence.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the prompt is not valid Unicode at character {error.start}") from error
        tokens = [] if self.bos is None else [self.bos]
        for part in _parted(text, self.specials):
            if isinstance(part, int):
                tokens.append(part)
            else:
                # Every text between special tokens begins with a space of its own, as in llama.cpp.
                tokens += self._encoder.encode(f" {part}" if self._prefixed else part)
        return tokens

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


def _piece(text: str, kind: Kind, spelled: bytes) -> bytes:
    """The bytes of a token; ``spelled``: of one whose text is spelled as the kind of tokenizer does it."""
    match kind:
        case Kind.NORMAL:
            return spelled
        case Kind.USER_DEFINED:
            return text.encode()
        case Kind.BYTE:
            byte = byte_of(text)
            return b"" if byte is None else bytes([byte])
        case _:
            return b""


def _parted(text: str, specials: Sequence[tuple[str, int]]) -> list[str | int]:
    """A text cut at special tokens: their numbers, and what is between them."""
    parts: list[str | int] = [text]
    for special, number in specials:
        if special in text:
            parts = [
                cut for part in parts for cut in (_cut(part, special, number) if isinstance(part, str) else [part])
            ]
    return [part for part in parts if part != ""]


def _cut(text: str, special: str, number: int) -> list[str | int]:
    first, *others = text.split(special)
    cuts: list[str | int] = [first]
    for other in others:
        cuts += [number, other]
    return cuts
