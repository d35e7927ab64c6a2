"""Strings that tokenizers disagree on: fuzzed Unicode, code, runs of white space, and natural text in many scripts."""

# ruff: noqa: RUF001 -- letters that look like others are what the strings are for.

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["strings"]

_NATURAL = (
    "The quick brown fox jumps over the lazy dog, doesn't it? They'll say we've WON'T I'D 1,234.56 times.",
    "Größe und Übermut: die Straße läuft schräg über den Fluß, naïve café, Ångström, œuvre, señor, ça va.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак під дубом.",
    "Η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί. ᾧ ὑπέρ ἐν ἀρχῇ.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. السَّلامُ ١٢٣٤٥",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। १२३",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์ ๑๒๓",
    "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。二〇二六年",
    "すべての人間は、生まれながらにして自由であり、カタカナ・ひらがな。ﾊﾝｶｸ",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm.",
    "ყველა ადამიანი იბადება თავისუფალი. Բոլոր մարդիկ ծնվում են ազատ. ሁሉም ሰዎች ነጻ ተወለዱ",
    "def f(x: int) -> list[str]:\n    return [str(i) for i in range(x)]  # tail\n\n\tif (a && b) { c++; }\r\n",
    "https://example.org/a?b=c&d=%20 user@example.org 192.168.0.1 0xDEADBEEF 3.14e-10 $5.00 €7 50% C:\\dir\\x",
    "<|im_start|>user\nhello<|im_end|>\n<s>[INST] hi [/INST]</s><|begin_of_text|><|eot_id|><unk>",
)
_ALPHABETS: tuple[Sequence[str], ...] = (
    [chr(code) for code in range(32, 127)],
    ["a", "e", "o", "\u0301", "\u0308", "\u0323", "\u200d", "\u20e3", "\ufe0f", "n", " "],
    ["👩", "👨", "👧", "🏽", "\u200d", "❤", "\ufe0f", "🏳", "🌈", "🇩", "🇪", "1", "\u20e3", " ", "a"],
    [chr(code) for code in range(0x4E00, 0x4E80)] + [" ", "。", ",", "a", "1"],
    [chr(code) for code in range(0x5D0, 0x5EB)] + [chr(code) for code in range(0x621, 0x650)] + [" ", "\u200f", "1"],
    [chr(code) for code in range(1, 32)] + ["\x7f", "\x85", "\xa0", "a", " "],
    [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u2003", "\u200b", "\xa0", "\u2028", "a", "B", "1", "!"],
    ["0", "1", "23", "456", "٣", "५", "Ⅷ", "½", "²", "①", ".", ",", " ", "x"],
    ["'s", "'S", "'t", "'RE", "'ve", "'ſ", "'", "`", "’s", "I", "it", " ", "\n", "'ll", "'D"],
    ["{", "}", "(", ")", ";", "==", "->", "    ", "\n", "\t", "if", "x", "_", "0", "//", "\\", "#", '"'],
    [
        "<s>",
        "</s>",
        "<unk>",
        "[INST]",
        "[/INST]",
        "<|im_end|>",
        "<|endoftext|>",
        "<|",
        "|>",
        "<0x0A>",
        "<",
        ">",
        " a",
        "s",
    ],
    ["a", "aa", "aaa", "b", "bb", "\u2581", " ", "the", "thethe", "lo", "ll", "oo"],
)
_KINDS = len(_ALPHABETS) + 3


def strings(count: int, seed: int = 0) -> list[str]:
    """Different strings, the empty one first.

    Args:
        count: How many.
        seed: Which.
    """
    chooser = random.Random(seed)
    found = dict.fromkeys(["", " ", "  ", "\n", *_NATURAL])
    while len(found) < count:
        found[_draw(chooser)] = None
    return list(found)[:count]


def _draw(chooser: random.Random) -> str:
    kind = chooser.randrange(_KINDS)
    if kind < len(_ALPHABETS):
        text = "".join(chooser.choices(_ALPHABETS[kind], k=chooser.randint(1, 40)))
    elif kind == len(_ALPHABETS):
        text = "".join(_any_character(chooser) for _ in range(chooser.randint(1, 30)))
    else:
        # A piece of natural text, sometimes followed by another.
        text = "".join(_cut(chooser) for _ in range(chooser.randint(1, 3)))
    return chooser.choice(["", "", " ", "   ", "\n"]) + text + chooser.choice(["", "", " ", "\n\n"])


def _any_character(chooser: random.Random) -> str:
    last = chooser.choice([0x7FF, 0xFFFF, 0x10FFFF])
    while True:
        code = chooser.randint(1, last)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def _cut(chooser: random.Random) -> str:
    text = chooser.choice(_NATURAL)
    begin = chooser.randrange(len(text))
    return text[begin : begin + chooser.randint(1, 60)]
