"""Reading GGUF files: values and tensors of whole files, and the refusal of everything else."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.frontends.gguf import GgufFile
from forerun.frontends.llama import LlamaModel
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.strategies import portion
from tests.tiny_gguf import TINY, tiny_weights, write_tiny_gguf

Quantization = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


# Whole files


def test_metadata_has_python_values_and_agrees_with_the_gguf_package(tiny: Path) -> None:
    file = GgufFile(tiny)
    reader = gguf.GGUFReader(tiny)
    expected = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert set(file.metadata) == set(expected)
    for key, value in file.metadata.items():
        found = value.tolist() if isinstance(value, np.ndarray) else value
        assert found == expected[key], key


def test_tensors_lie_where_the_gguf_package_finds_them(tiny: Path) -> None:
    file = GgufFile(tiny)
    for tensor in gguf.GGUFReader(tiny).tensors:
        info = file.tensors[tensor.name]
        assert (info.offset, info.size, info.type) == (tensor.data_offset, tensor.n_bytes, tensor.tensor_type)
        assert info.shape == tuple(tensor.shape.tolist()[::-1])


def test_f32_tensors_are_views_of_the_file(tiny: Path) -> None:
    file = GgufFile(tiny)
    for name, expected in tiny_weights().items():
        values = file.tensor(name)
        np.testing.assert_array_equal(values, expected)
        assert not values.flags.owndata
        assert not values.flags.writeable


@pytest.mark.parametrize("kind", [Quantization.F16, Quantization.BF16, Quantization.Q8_0, Quantization.Q4_1])
def test_encoded_tensors_are_decoded_to_f32(kind: Quantization, tmp_path: Path) -> None:
    file = GgufFile(write_tiny_gguf(tmp_path / "tiny.gguf", matrices=kind))
    expected = tiny_weights()["blk.1.ffn_down.weight"]
    found = file.tensor("blk.1.ffn_down.weight")
    assert file.tensors["blk.1.ffn_down.weight"].type is kind
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.abs(found - expected).max() > 0


def test_typed_access_to_metadata(tiny: Path) -> None:
    file = GgufFile(tiny)
    assert file.integer("llama.block_count") == TINY.layers
    assert file.real("llama.rope.freq_base") == TINY.rope_base
    assert file.text("tokenizer.ggml.pre") == "smollm"
    assert file.boolean("tokenizer.ggml.add_bos_token") is False
    assert file.integer("llama.absent", 5) == 5
    assert file.integers("tokenizer.ggml.token_type")[:4] == [3, 3, 3, 1]
    assert file.texts("tokenizer.ggml.tokens")[0] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda f: f.integer("llama.blok_count"), "'llama.blok_count' is missing"),
        (lambda f: f.integer("tokenizer.ggml.pre"), "must be an integer, not 'smollm'"),
        (lambda f: f.integer("tokenizer.ggml.add_bos_token"), "must be an integer"),
        (lambda f: f.integer("llama.block_count", least=3), "is 2; it must be at least 3"),
        (lambda f: f.real("tokenizer.ggml.pre"), "must be a number"),
        (lambda f: f.real("llama.absent", -1.0), "must be positive"),
        (lambda f: f.boolean("llama.block_count"), "must be true or false"),
        (lambda f: f.text("llama.block_count"), "must be a string"),
        (lambda f: f.texts("llama.block_count"), "must be a list of strings"),
        (lambda f: f.numbers("llama.block_count"), "must be a list of numbers"),
        (lambda f: f.numbers("tokenizer.ggml.tokens"), "must be a list of numbers"),
        (lambda f: f.integers("tokenizer.ggml.tokens"), "must be a list of integers"),
        (lambda f: f.tensor("blk.0.attn_qq.weight"), "tensor 'blk.0.attn_qq.weight' is missing"),
    ],
)
def test_wrong_requests_say_the_key(tiny: Path, ask: Callable[[GgufFile], object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ask(GgufFile(tiny))
    assert said in str(caught.value)
    assert str(tiny) in str(caught.value)


def test_missing_names_get_the_closest(tiny: Path) -> None:
    with pytest.raises(InvalidInput, match=r"did you mean 'blk\.0\.attn_q\.weight'"):
        GgufFile(tiny).tensor("blk.0.attn_qq.weight")
    with pytest.raises(InvalidInput, match=r"no such file[^$]*did you mean 'tiny\.gguf'"):
        GgufFile(tiny.with_name("tinny.gguf"))


@pytest.mark.parametrize(
    ("metadata", "asked", "hint"),
    [
        # A key that the format does not know can only be meant for the one that is missing.
        ({"llama.block_count": None, "llama.blok_count": 2}, "llama.block_count", "the file has 'llama.blok_count'"),
        # token_type is like tokens, and key_length like value_length; but they mean other things.
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens", "convert the model again"),
        (
            {"llama.attention.value_length": 8},
            "llama.attention.key_length",
            "convert the model again",
        ),
    ],
)
def test_a_missing_key_is_not_taken_for_one_of_another_meaning(
    tmp_path: Path, metadata: dict[str, object], asked: str, hint: str
) -> None:
    file = GgufFile(write_tiny_gguf(tmp_path / "tiny.gguf", metadata=metadata))
    with pytest.raises(InvalidInput, match=f"'{re.escape(asked)}' is missing") as caught:
        file.integer(asked)
    assert caught.value.hint.startswith(hint)


def test_text_in_another_encoding_is_no_damage_where_nobody_asks_for_it(tmp_path: Path) -> None:
    whole = write_tiny_gguf(
        tmp_path / "tiny.gguf", metadata={"general.author": "Jose__", "general.basename": "Tiny__"}
    ).read_bytes()
    path = tmp_path / "latin1.gguf"
    path.write_bytes(whole.replace(b"Jose__", b"Jos\xe9 X").replace(b"Tiny__", b"Tiny\xe9_"))
    assert LlamaModel.open(path).config.name == "tiny_10k"
    file = GgufFile(path)
    with pytest.raises(InvalidInput, match=r"key 'general\.author' is not UTF-8"):
        file.text("general.author")
    path.write_bytes(whole.replace("ĠFrance".encode(), b"\xff\xfeFrance"))
    with pytest.raises(InvalidInput, match=r"string \d+ of key 'tokenizer\.ggml\.tokens' is not UTF-8"):
        GgufFile(path).texts("tokenizer.ggml.tokens")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = tiny_weights()["output_norm.weight"]
    broken[3] = np.nan
    path = write_tiny_gguf(tmp_path / "nan.gguf", tensors={"output_norm.weight": broken})
    with pytest.raises(
        InvalidInput, match=r"tensor 'output_norm\.weight' holds values that are not finite: nan at \[3\], 1 in"
    ):
        GgufFile(path).tensor("output_norm.weight")


def test_types_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    integers = np.zeros((TINY.width, TINY.hidden), np.int32)
    path = write_tiny_gguf(tmp_path / "int.gguf", tensors={"blk.0.ffn_down.weight": integers})
    with pytest.raises(InvalidInput, match=r"tensor 'blk\.0\.ffn_down\.weight': type I32 cannot be decoded[^$]*Q8_0"):
        LlamaModel.open(path)
    with pytest.raises(InvalidInput, match="type I32 cannot be decoded"):
        GgufFile(path).tensor("blk.0.ffn_down.weight")


# Files that are something else


def header(*parts: bytes, tensors: int = 0, keys: int = 0, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def tensor(name: bytes, *dims: int, kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


HUGE = 2**63


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too short"),
        (b"GG", "too short"),
        (b"PK\x03\x04 a zip archive", r"not a GGUF file \(it begins with b'PK"),
        (b"GGUF", "version would end at byte 8"),
        (header(version=1), "version 1 is not known"),
        (header(version=3 << 24), "big-endian"),
        (header(tensors=HUGE), "tensor count 9223372036854775808 is more than"),
        (header(keys=HUGE), "key count 9223372036854775808 is more than"),
        (header(b"x" * 40, keys=1, tensors=0)[:-39], "key count 1 is more than"),
        (header(struct.pack("<Q", HUGE), bytes(40), keys=1), "name of key 0 would end"),
        (header(string(b"\xff"), bytes(40), keys=1), "name of key 0 at byte 32 is not UTF-8"),
        (header(string(b"k"), struct.pack("<I", 99), bytes(40), keys=1), "value of key 'k' has the unknown type 99"),
        (header(string(b"k"), struct.pack("<IIQ", 9, 8, HUGE), keys=1), "value of key 'k' 9223372036854775808 is more"),
        (header(string(b"k"), struct.pack("<IIQ", 9, 6, HUGE), keys=1), "value of key 'k' 9223372036854775808 is more"),
        (header(string(b"k"), struct.pack("<IIQ", 9, 9, 1), keys=1), "an array of the unknown type 9"),
        (header(*[string(b"k") + struct.pack("<IB", 0, 1)] * 2, keys=2), "key 'k' occurs twice"),
        (header(string(b"general.alignment"), struct.pack("<II", 4, 3), keys=1), "not a power of two"),
        (header(tensor(b"t", 1, 1, 1, 1, 1), tensors=1), "tensor 't' has 5 dimensions"),
        (header(tensor(b"t", 4, 0), tensors=1), "tensor 't' has an empty dimension"),
        (header(tensor(b"t", 4, kind=999), tensors=1), "tensor 't' has the unknown type 999"),
        (header(tensor(b"t", 31, kind=8), tensors=1), "rows of 31 elements are not whole Q8_0 blocks of 32"),
        (header(tensor(b"t", 1, offset=8), bytes(96), tensors=1), "tensor 't' is not aligned to 32 bytes"),
        (header(tensor(b"t", HUGE, HUGE), tensors=1), "the file is truncated: tensor 't' ends"),
        (header(tensor(b"t", 4, offset=2**40), tensors=1), "the file is truncated: tensor 't' ends"),
        (header(*[tensor(b"t", 1)] * 2, bytes(96), tensors=2), "tensor 't' occurs twice"),
        (header(tensor(b"a", 9), tensor(b"b", 9, offset=32), bytes(99), tensors=2), "tensors 'a' and 'b' overlap"),
        (header(tensor(b"a", 9), tensor(b"b", 9), bytes(99), tensors=2), "tensors 'a' and 'b' overlap"),
        (header(tensor(b"a", 1, offset=32), tensor(b"b", 9), bytes(99), tensors=2), "tensors 'b' and 'a' overlap"),
        (header(tensor(b"t" * 1025, 1), bytes(99), tensors=1), "name of tensor 0 has 1,025 bytes, more than 1,024"),
        (header(string(b"k" * 65536), bytes(99), keys=1), "name of key 0 has 65,536 bytes, more than 65,535"),
        (header(bytes(1 << 20), keys=1 << 16 | 1), "key count 65,537 is more than 65,536"),
    ],
)
def test_damaged_headers_are_refused_with_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=said) as caught:
        GgufFile(path)
    assert caught.value.hint
    assert str(path) in str(caught.value)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        GgufFile(tmp_path)
    with pytest.raises(InvalidInput, match="no such file"):
        GgufFile(tmp_path / "nowhere" / "model.gguf")


# Damage at random


def open_and_read(path: Path) -> None:
    """All that a run does with a file; it may refuse it, and nothing else."""
    try:
        model = LlamaModel.open(path)
        model.tokenizer.encode("the capital")
        for name in model.weights:
            assert np.isfinite(model.weights[name]).all()
    except (InvalidInput, Unsupported):
        event("refused")
    else:
        event("accepted")


@settings(portion(40), deadline=None)
@given(st.data())
def test_truncation_is_always_refused(tiny: Path, data: st.DataObject) -> None:
    whole = tiny.read_bytes()
    size = data.draw(st.integers(0, len(whole) - 1))
    path = tiny.with_name("truncated.gguf")
    path.write_bytes(whole[:size])
    with pytest.raises(InvalidInput):
        LlamaModel.open(path)


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
def test_truncation_in_the_header_is_always_refused(tmp_path: Path, tokenizer: str) -> None:
    whole = write_tiny_gguf(tmp_path / "tiny.gguf", tokenizer=tokenizer).read_bytes()
    path = tmp_path / "truncated.gguf"
    for size in range(0, 9000, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(InvalidInput):
            LlamaModel.open(path)


@settings(portion(150), deadline=None)
@given(st.data())
def test_changed_bytes_are_refused_or_harmless(tiny: Path, data: st.DataObject) -> None:
    content = bytearray(tiny.read_bytes())
    # Most of the structure is at the beginning, so that is where most changes go.
    place = st.integers(0, 2000) | st.integers(0, len(content) - 1)
    for at in data.draw(st.lists(place, min_size=1, max_size=4)):
        content[at] = data.draw(st.sampled_from([0, 1, 4, 8, 9, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    path = tiny.with_name("changed.gguf")
    path.write_bytes(content)
    open_and_read(path)


# Size


def test_many_tensors_on_the_same_bytes_are_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    size = 1 << 16
    tensors = [tensor(b"t%d" % number, size) for number in range(1000)]
    path = tmp_path / "many.gguf"
    path.write_bytes(header(*tensors, bytes(4 * size + 64), tensors=1000))
    with pytest.raises(InvalidInput, match="tensors 't0' and 't1' overlap"):
        GgufFile(path)


@pytest.mark.parametrize("kind", [k for k in Quantization if k in gguf.GGML_QUANT_SIZES])
def test_decoding_expands_a_file_by_a_bounded_factor(kind: Quantization) -> None:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    assert 4 * elements <= 32 * size


# Files that become shorter


def test_a_file_that_becomes_shorter_is_bad_input_and_no_crash(tiny: Path) -> None:
    path = tiny.with_name("shrinking.gguf")
    path.write_bytes(tiny.read_bytes())
    file = GgufFile(path)
    names = sorted(file.tensors, key=lambda name: file.tensors[name].offset)
    first, last = file.tensors[names[0]], file.tensors[names[-1]]
    with path.open("r+b") as handle:
        handle.truncate(last.offset + last.size // 2)
    assert np.isfinite(file.tensor(first.name)).all()
    with pytest.raises(InvalidInput, match="the file became shorter while it was read"):
        file.tensor(last.name)
    with path.open("r+b") as handle:
        handle.truncate(0)
    with pytest.raises(InvalidInput, match="the file became shorter while it was read: it ended at byte"):
        file.tensor(first.name)


def test_a_model_whose_file_becomes_shorter_is_bad_input(tiny: Path) -> None:
    path = tiny.with_name("shrinking-model.gguf")
    path.write_bytes(tiny.read_bytes())
    model = LlamaModel.open(path)
    with path.open("r+b") as handle:
        handle.truncate(5000)
    with pytest.raises(InvalidInput, match="became shorter"):
        [model.weights[name] for name in model.weights]


def test_a_file_that_is_replaced_while_it_is_open_stays_what_it_was(tiny: Path) -> None:
    path = tiny.with_name("replaced.gguf")
    path.write_bytes(tiny.read_bytes())
    file = GgufFile(path)
    path.unlink()
    path.write_bytes(b"something else")
    assert np.isfinite(file.tensor("output_norm.weight")).all()


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(InvalidInput, match="it is a pipe"):
        GgufFile(tmp_path / "pipe.gguf")
    with pytest.raises(InvalidInput, match="it is a device"):
        GgufFile("/dev/zero")
