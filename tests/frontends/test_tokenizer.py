"""Tokens of the tiny vocabularies, and decoding that never shows half a character."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.frontends.gguf import GgufFile
from forerun.frontends.tokenizer import TextStream, Tokenizer
from forerun.ir.diagnostics import InvalidInput
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("byte_level"))


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("sentence_piece"), tokenizer="llama")


def load(folder: Path, tokenizer: str = "gpt2", **metadata: object) -> Tokenizer:
    keys = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    return Tokenizer.from_gguf(GgufFile(write_tiny_gguf(folder / "tiny.gguf", tokenizer=tokenizer, metadata=keys)))


def pieces(tokenizer: Tokenizer, text: str) -> list[bytes]:
    return [tokenizer.piece(token) for token in tokenizer.encode(text)]


# Encoding


def test_byte_level_words_are_single_tokens_with_their_space(byte_level: Tokenizer) -> None:
    assert pieces(byte_level, "the capital of France") == [b"the", b" capital", b" of", b" France"]


def test_byte_level_falls_back_to_bytes(byte_level: Tokenizer) -> None:
    assert pieces(byte_level, "é") == [b"\xc3", b"\xa9"]


def test_sentence_piece_words_follow_the_begin_token(sentence_piece: Tokenizer) -> None:
    tokens = sentence_piece.encode("the capital of France")
    assert tokens[0] == sentence_piece.bos == 1
    assert [sentence_piece.piece(token) for token in tokens[1:]] == [b" the", b" capital", b" of", b" France"]


def test_sentence_piece_falls_back_to_bytes(sentence_piece: Tokenizer) -> None:
    assert pieces(sentence_piece, "the€")[-3:] == [b"\xe2", b"\x82", b"\xac"]


def test_special_tokens_in_the_text_are_recognised(byte_level: Tokenizer, sentence_piece: Tokenizer) -> None:
    assert byte_level.encode("<|im_start|>the<|im_end|>") == [1, *byte_level.encode("the"), 2]
    assert sentence_piece.encode("the</s>")[-1] == 2


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", [b"1", b"2", b"3", b"4"]),
        ("gpt-2", [b"12", b"34"]),
        ("default", [b"12", b"3", b"4"]),
        ("llama-bpe", [b"12", b"3", b"4"]),
        ("qwen2", [b"1", b"2", b"3", b"4"]),
    ],
)
def test_digits_are_split_as_the_file_says(tmp_path: Path, pre: str, expected: list[bytes]) -> None:
    merges = ["1 2", "3 4", "Ġ t", "Ġt h", "Ġth e"]
    plain = load(tmp_path)
    tokens = [*(chr_of(plain, token) for token in range(plain.size)), "12", "34"]
    types = [3] * 3 + [1] * (len(tokens) - 3)
    tokenizer = load(tmp_path, pre=pre, merges=merges, tokens=tokens, token_type=types, add_bos_token=False)
    assert pieces(tokenizer, "1234") == expected


def chr_of(tokenizer: Tokenizer, token: int) -> str:
    """The token's text as the file has it."""
    text: str | None = tokenizer._backend.id_to_token(token)
    assert text is not None
    return text


# Begin and end


def test_begin_and_end_tokens_are_those_of_the_file(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, add_bos_token=True, bos_token_id=1, eos_token_id=5, eot_token_id=7)
    assert tokenizer.bos == 1
    assert tokenizer.encode("the")[0] == 1
    assert tokenizer.ends == {0, 2, 5, 7}  # <|endoftext|> and <|im_end|> by their names


def test_llama_3_begins_with_its_token_unless_the_file_says_no(tmp_path: Path) -> None:
    assert load(tmp_path, pre="llama-bpe", add_bos_token=None, bos_token_id=0).bos == 0
    assert load(tmp_path, pre="llama-bpe", add_bos_token=False, bos_token_id=0).bos is None
    assert load(tmp_path, add_bos_token=None, bos_token_id=0).bos is None


def test_empty_text_is_no_token(byte_level: Tokenizer, sentence_piece: Tokenizer) -> None:
    assert byte_level.encode("") == []
    assert sentence_piece.encode("") == [1]


# Decoding


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_byte_level_round_trip(byte_level: Tokenizer, text: str) -> None:
    assert byte_level.decode(byte_level.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40))
def test_sentence_piece_round_trip(sentence_piece: Tokenizer, text: str) -> None:
    assert sentence_piece.decode(sentence_piece.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab é€🙂你"), max_size=12))
def test_streaming_shows_whole_characters_as_soon_as_they_are_whole(byte_level: Tokenizer, text: str) -> None:
    stream = TextStream(byte_level)
    shown, behind = "", b""
    for token in byte_level.encode(text):
        behind += byte_level.piece(token)
        shown += stream.push(token)
        assert "\ufffd" not in shown
        assert shown == behind.decode(errors="ignore")
    assert shown == text


def test_bytes_that_cannot_be_a_character_are_replaced_and_do_not_block(byte_level: Tokenizer) -> None:
    stream = TextStream(byte_level)
    broken, whole = byte_level.encode("é")[0], byte_level.encode("the")
    assert stream.push(broken) == ""
    assert "".join(stream.push(token) for token in whole) == "\ufffdthe"


def test_control_tokens_have_no_text_and_incomplete_ends_are_left_out(byte_level: Tokenizer) -> None:
    assert byte_level.decode([1, *byte_level.encode("the"), 2]) == "the"
    assert byte_level.decode(byte_level.encode("the€")[:-1]) == "the"


# Refusals


@pytest.mark.parametrize(
    ("kind", "metadata", "said"),
    [
        ("gpt2", {"model": "gpt3"}, r"'tokenizer\.ggml\.model' is 'gpt3'[^$]*did you mean 'gpt2'"),
        ("gpt2", {"pre": "smolm"}, r"'smolm' is not known[^$]*did you mean 'smollm'"),
        ("gpt2", {"merges": None}, r"'tokenizer\.ggml\.merges' is missing"),
        ("gpt2", {"merges": ["the zzz"]}, r"'the zzz' does not join two tokens"),
        ("gpt2", {"merges": ["the"]}, r"'the' does not join two tokens"),
        ("gpt2", {"tokens": None}, r"'tokenizer\.ggml\.tokens' is missing"),
        ("gpt2", {"token_type": [1, 1]}, r"token_type' has 2 entries for"),
        ("gpt2", {"token_type": [1.0, 1.0]}, r"token_type' must be a list of integers"),
        ("gpt2", {"eos_token_id": 100000}, r"eos_token_id' is 100000, but there are"),
        ("llama", {"scores": None}, r"'tokenizer\.ggml\.scores' is missing"),
        ("llama", {"scores": [0.0]}, r"scores' has 1 entries for"),
    ],
)
def test_broken_vocabularies_are_refused_with_the_key(
    tmp_path: Path, kind: str, metadata: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        load(tmp_path, kind, **metadata)


def test_text_and_tokens_that_do_not_exist_are_refused(byte_level: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="not valid Unicode at character 1"):
        byte_level.encode("a\ud800")
    for token in (-1, byte_level.size):
        with pytest.raises(InvalidInput, match="no token"):
            byte_level.piece(token)
