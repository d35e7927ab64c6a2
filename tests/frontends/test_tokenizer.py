"""Tokens of the tiny vocabularies, and decoding that never shows half a character."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forerun.frontends.gguf import GgufFile
from forerun.frontends.sentence_piece import SentencePiece
from forerun.frontends.tokenizer import TextStream, Tokenizer
from forerun.support.diagnostics import InvalidInput
from tests.strategies import portion
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
    plain = GgufFile(write_tiny_gguf(tmp_path / "plain.gguf"))
    tokens = [*plain.texts("tokenizer.ggml.tokens"), "12", "34"]
    types = [3] * 3 + [1] * (len(tokens) - 3)
    tokenizer = load(tmp_path, pre=pre, merges=merges, tokens=tokens, token_type=types, add_bos_token=False)
    assert pieces(tokenizer, "1234") == expected


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


@settings(portion(100), deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_byte_level_round_trip(byte_level: Tokenizer, text: str) -> None:
    assume(not any(special in text for special, _ in byte_level.specials))
    assert byte_level.decode(byte_level.encode(text)) == text


@settings(portion(100), deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40))
def test_sentence_piece_round_trip(sentence_piece: Tokenizer, text: str) -> None:
    assume(not any(special in text for special, _ in sentence_piece.specials))
    assert sentence_piece.decode(sentence_piece.encode(text)) == text


@settings(portion(100), deadline=None)
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


@pytest.mark.parametrize(
    ("kind", "metadata", "said", "hint"),
    [
        ("gpt2", {"merges": None, "scores": [0.0]}, "merges' is missing", "would be 'llama'"),
        ("llama", {"scores": None, "merges": ["a b"]}, "scores' is missing", "would be 'gpt2'"),
        ("gpt2", {"token_type": [6]}, "is of the type BYTE", ""),
        ("gpt2", {"token_type": [0]}, "token 0 has the unknown type 0", "1 to 6"),
        ("llama", {"scores": [float("nan")]}, "the score of token 0 is nan", ""),
    ],
)
def test_vocabularies_of_another_kind_are_refused_with_advice(
    tmp_path: Path, kind: str, metadata: dict[str, object], said: str, hint: str
) -> None:
    size = len(GgufFile(write_tiny_gguf(tmp_path / "plain.gguf", tokenizer=kind)).texts("tokenizer.ggml.tokens"))
    sized = {
        key: value * size if isinstance(value, list) and len(value) == 1 and key != "merges" else value
        for key, value in metadata.items()
    }
    with pytest.raises(InvalidInput, match=said) as caught:
        load(tmp_path, kind, **sized)
    assert hint in caught.value.hint


def changed(folder: Path, kind: str, changes: dict[str, str]) -> dict[str, object]:
    """The tokens of a tiny vocabulary with other texts."""
    tokens = GgufFile(write_tiny_gguf(folder / "plain.gguf", tokenizer=kind)).texts("tokenizer.ggml.tokens")
    assert changes.keys() <= set(tokens)
    return {"tokens": [changes.get(token, token) for token in tokens]}


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("gpt2", {"Q": "<|Q|>"}, "no token for byte 0x51"),
        ("gpt2", {"\u0100": "A"}, "tokens 3 and 68 are both 'A'"),
        ("llama", {"<0x51>": "<0x52>"}, "both '<0x52>'"),
        ("llama", {"<0x51>": "<Q>"}, "type BYTE, but '<Q>' is not like"),
        ("llama", {"</s>": "<s>"}, "tokens 1 and 2 are both '<s>'"),
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path: Path, kind: str, changes: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        load(tmp_path, kind, **changed(tmp_path, kind, changes))


def test_a_sentence_piece_vocabulary_that_is_declared_byte_level_is_refused(tmp_path: Path) -> None:
    file = GgufFile(write_tiny_gguf(tmp_path / "plain.gguf"))
    tokens = file.texts("tokenizer.ggml.tokens") + [f"\u2581word{number}" for number in range(100)]
    types = [*file.integers("tokenizer.ggml.token_type"), *[1] * 100]
    with pytest.raises(InvalidInput, match=r"100 of \d+ tokens, such as '\u2581word0', are not spelled in byte-level"):
        load(tmp_path, tokens=tokens, token_type=types)


# Added tokens, end tokens, and what cannot be expressed


def extended(folder: Path, kind: str, *added: tuple[str, int], **metadata: object) -> Tokenizer:
    """A tiny vocabulary with more tokens, each a text and a type."""
    file = GgufFile(write_tiny_gguf(folder / "plain.gguf", tokenizer=kind))
    keys: dict[str, object] = {
        "tokens": [*file.texts("tokenizer.ggml.tokens"), *(text for text, _ in added)],
        "token_type": [*file.integers("tokenizer.ggml.token_type"), *(number for _, number in added)],
    }
    if kind == "llama":
        keys["scores"] = [*file.numbers("tokenizer.ggml.scores"), *[0.0] * len(added)]
    return load(folder, kind, **keys, **metadata)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("text", ["caf\u00e9 \u0120x", "\u65e5 \u672c", "\u2581\u2581", "<tool call>", "\n\n"])
def test_added_tokens_are_their_own_text(tmp_path: Path, kind: str, text: str) -> None:
    tokenizer = extended(tmp_path, kind, (text, 4))
    added = tokenizer.size - 1
    assert tokenizer.piece(added) == text.encode()
    assert added in tokenizer.encode(f"the{text}the")
    assert tokenizer.decode([added]) == text


def test_normal_tokens_outside_the_byte_alphabet_are_added_ones(tmp_path: Path) -> None:
    tokenizer = extended(tmp_path, "gpt2", ("caf\u00e9 noir", 1))
    assert tokenizer.encode("caf\u00e9 noir") == [tokenizer.size - 1]
    assert tokenizer.decode([tokenizer.size - 1]) == "caf\u00e9 noir"


def test_the_longest_special_token_is_found_first_wherever_it_stands(tmp_path: Path) -> None:
    tokenizer = extended(tmp_path, "gpt2", ("<a", 4), ("abc>", 4))
    assert tokenizer.encode("<abc>") == [*tokenizer.encode("<"), tokenizer.size - 1]


def test_unknown_tokens_are_recognised_and_have_no_text(sentence_piece: Tokenizer) -> None:
    assert sentence_piece.encode("<unk>") == [1, 0]
    assert sentence_piece.decode([0]) == ""


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("number", [1, 3, 4])
@pytest.mark.parametrize("text", ["<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<|eom_id|>", "<eos>", "[EOS]"])
def test_end_tokens_are_known_by_their_text_whatever_their_type(
    tmp_path: Path, kind: str, number: int, text: str
) -> None:
    tokenizer = extended(tmp_path, kind, (text, number))
    assert tokenizer.size - 1 in tokenizer.ends
    assert tokenizer.piece(tokenizer.size - 1) == b""
    assert tokenizer.encode(text)[-1] == tokenizer.size - 1


@pytest.mark.parametrize("role", ["eos", "eot", "eom"])
def test_end_tokens_are_known_by_their_role(tmp_path: Path, role: str) -> None:
    tokenizer = extended(tmp_path, "gpt2", ("<my own end>", 1), **{f"{role}_token_id": 321})
    assert tokenizer.size == 322
    assert 321 in tokenizer.ends
    assert tokenizer.piece(321) == b""


def test_missing_first_tokens_have_the_default_or_are_reported(tmp_path: Path) -> None:
    found = load(tmp_path, "llama", bos_token_id=None, eos_token_id=None, unknown_token_id=None)
    assert (found.bos, 2 in found.ends) == (1, True)
    for kind, keys in (
        ("llama", changed(tmp_path, "llama", {"<s>": "<first>"}) | {"token_type": None}),
        ("gpt2", {"add_bos_token": True}),
        ("gpt2", {"add_bos_token": None, "pre": "llama-bpe"}),
    ):
        with pytest.raises(InvalidInput, match="bos_token_id' is missing"):
            load(tmp_path, kind, bos_token_id=None, **keys)


def test_no_first_token_is_said_by_a_number_that_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "llama", bos_token_id=2**32 - 1).bos is None


def test_what_a_byte_level_vocabulary_lacks_is_unknown_or_named(tmp_path: Path) -> None:
    # The byte 0xA9, which the second half of a letter needs.
    keys = changed(tmp_path, "gpt2", {"\u00a9": "<other>"})
    with pytest.raises(InvalidInput, match=r"the prompt holds '\u00e9' \(U\+00E9\)"):
        load(tmp_path, **keys).encode("the \u00e9")
    with_unknown = load(tmp_path, unknown_token_id=1, **keys)
    the = with_unknown.encode("the")
    assert with_unknown.encode("the\u00e9\u00e9the\u00e9") == [*the, 1, *the, 1]
    # An end token that is named as the unknown one would end the prompt in its midst.
    with pytest.raises(InvalidInput, match="cannot express"):
        load(tmp_path, unknown_token_id=2, **keys).encode("the \u00e9")


def test_what_sentence_piece_lacks_is_unknown_or_named(tmp_path: Path) -> None:
    file = GgufFile(write_tiny_gguf(tmp_path / "plain.gguf", tokenizer="llama"))
    # Without byte tokens; their places are not used.
    types = [5 if kind == 6 else kind for kind in file.integers("tokenizer.ggml.token_type")]
    assert load(tmp_path, "llama", token_type=types).encode("the\u20ac\u20acthe")[2:3] == [0]
    no_unknown = [3, *types[1:]]
    tokenizer = load(tmp_path, "llama", token_type=no_unknown, unknown_token_id=2**32 - 1)
    with pytest.raises(InvalidInput, match=r"the prompt holds '\u20ac' \(U\+20AC\)"):
        tokenizer.encode("the\u20ac")


# SentencePiece's order of joins


def naive(pieces: list[str], scores: dict[str, float]) -> list[str]:
    """The definition: join the pair with the best score, the leftmost of equals, as long as there is one."""
    while True:
        best = [(-scores[a + b], at) for at, (a, b) in enumerate(pairwise(pieces)) if a + b in scores]
        if not best:
            return pieces
        at = min(best)[1]
        pieces = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]


@settings(portion(200), deadline=None)
@given(
    text=st.text("ab", max_size=24),
    scores=st.dictionaries(st.text("ab", min_size=2, max_size=5), st.sampled_from([-3.0, -2.0, -1.0]), max_size=12),
)
def test_pieces_are_joined_by_score_then_from_the_left(text: str, scores: dict[str, float]) -> None:
    tokens = ["a", "b", *scores]
    encoder = SentencePiece(
        {piece: number for number, piece in enumerate(tokens)}, [0.0, 0.0, *scores.values()], frozenset(), (), None
    )
    assert [tokens[number] for number in encoder.encode(text)] == naive(list(text), scores)


def test_unused_pieces_are_taken_apart_again() -> None:
    numbers = {"a": 0, "b": 1, "ab": 2, "abab": 3}
    encoder = SentencePiece(numbers, [0.0, 0.0, -1.0, -2.0], frozenset({3}), (), None)
    assert encoder.encode("ababa") == [2, 2, 0]
