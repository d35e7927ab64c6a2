"""llama.cpp's own tokenizer, from the shared library of the wheel ``xllamacpp``, by its C interface."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

__all__ = ["LlamaCppTokenizer"]

_PARAMETERS = 512
"""Bytes of a ``llama_model_params``, or more: it is passed on the stack, where more does not matter."""
_VOCAB_ONLY = 72
"""Where ``vocab_only`` is in it: after eight pointers and two or three pairs of integers (llama.h of the wheel)."""
_CAPACITY = 1 << 16


class _Parameters(ctypes.Structure):
    _fields_ = [("raw", ctypes.c_ubyte * _PARAMETERS)]


class LlamaCppTokenizer:
    """The tokenizer of a GGUF file, as llama.cpp has it.

    Raises:
        RuntimeError: If the wheel is not installed, or refuses the file.
    """

    def __init__(self, path: Path) -> None:
        self._library = library = _library()
        parameters = library.llama_model_default_params()
        parameters.raw[_VOCAB_ONLY] = 1
        model = library.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise RuntimeError(f"llama.cpp refuses {path}")
        self._vocabulary = library.llama_model_get_vocab(model)
        self.size: int = library.llama_vocab_n_tokens(self._vocabulary)

    def encode(self, text: str) -> list[int]:
        """As ``llama-cli`` encodes a prompt: with the begin token, special tokens recognised."""
        raw = text.encode()
        found = (ctypes.c_int32 * _CAPACITY)()
        count = self._library.llama_tokenize(self._vocabulary, raw, len(raw), found, _CAPACITY, True, True)
        return list(found[:count])

    def pieces(self, tokens: list[int]) -> bytes:
        """The bytes of tokens one by one, special ones without text, as they are streamed."""
        buffer = ctypes.create_string_buffer(_CAPACITY)
        pieces = []
        for token in tokens:
            size = self._library.llama_token_to_piece(self._vocabulary, token, buffer, _CAPACITY, 0, False)
            pieces.append(buffer.raw[:size])
        return b"".join(pieces)

    def ends(self) -> frozenset[int]:
        """The tokens that end generation."""
        is_end = self._library.llama_vocab_is_eog
        return frozenset(token for token in range(self.size) if is_end(self._vocabulary, token))


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the wheel 'xllamacpp' is not installed")
    paths = sorted(Path(spec.submodule_search_locations[0]).glob("*.so"))
    library = ctypes.CDLL(str(paths[0]))
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)
    _KEPT.append(quiet(lambda level, text, data: None))
    library.llama_log_set.argtypes = [quiet, pointer]
    library.llama_log_set(_KEPT[-1], None)
    library.llama_model_default_params.restype = _Parameters
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Parameters]
    library.llama_model_load_from_file.restype = pointer
    library.llama_model_get_vocab.argtypes = [pointer]
    library.llama_model_get_vocab.restype = pointer
    library.llama_vocab_n_tokens.argtypes = [pointer]
    library.llama_vocab_is_eog.argtypes = [pointer, integer]
    library.llama_vocab_is_eog.restype = ctypes.c_bool
    text, flag = ctypes.c_char_p, ctypes.c_bool
    tokens = ctypes.POINTER(integer)
    library.llama_tokenize.argtypes = [pointer, text, integer, tokens, integer, flag, flag]
    library.llama_token_to_piece.argtypes = [pointer, integer, text, integer, integer, flag]
    library.llama_backend_init()
    return library


_KEPT: list[object] = []
"""Callbacks that the library holds."""
