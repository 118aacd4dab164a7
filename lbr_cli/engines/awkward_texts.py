"""Texts that tokenizers treat differently: a digest of their token ids identifies a tokenizer."""

AWKWARD = (
    "Ripe Figs turn PURPLE in August.",
    " a leading blank, two  blanks,   three, and a trailing one ",
    "tabs\tand\nline\n\nbreaks\r\nof all\rkinds",
    "Ünïcödé, naïve café, Straße, ÅNGSTRÖM, I\u0307stanbul",  # composed
    "u\u0308ber cafe\u0301 A\u030a",  # and decomposed
    "日本語のテキスト、中文文本。한국어 ภาษาไทย हिन्दी العربية עברית Русский Ελληνικά",
    "ﬁne ﬂuﬀ ① ½ Ⅷ \uff46\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff54\uff48 ㎏ ™",
    "emoji 🙂👩‍👩‍👧 🇱🇺 1️⃣",
    "don't we'll I'm — “quotes” … `code` #tag @name a_b-c/d\\e <s> </s> [MASK] [SEP] <|im_end|> ▁x Ġy",
    "3.14 1,000,000 1e-5 2026-11-28 +352 12345678901234567890",
    "zero\u200bwidth no\u00a0break soft\u00adhyphen bom\ufeff nul\x00 bell\x07",
    "",
    "x",
)
