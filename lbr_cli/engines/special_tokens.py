"""Special tokens that are written out in a text stay plain text.

transformers does not search a text for special tokens if `split_special_tokens` is set. The vocabulary of a unigram
model (XLM-RoBERTa, T5, DeBERTa-v3) still holds them, as the pieces with the best score. For SentencePiece, which these
models are converted from, they are control symbols, which no text contains.
"""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer, pre_tokenizers


def keep_special_tokens_plain(tokenizer: Tokenizer) -> None:
    """Split each special token in a text after its first character, if its text alone gives its id."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    special = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    found = [
        text
        for i, text in special.items()
        if len(text) > 1 and i in tokenizer.encode(text, add_special_tokens=False).ids
    ]
    tokenizer.encode_special_tokens = False
    if found:
        pattern = "|".join(f"{re.escape(text[0])}(?={re.escape(text[1:])})" for text in found)
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        own = tokenizer.pre_tokenizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([own, split]) if own else split
