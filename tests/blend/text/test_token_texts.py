"""Texts of single tokens, on tokenizers of both makes."""

from blend.text.token_texts import token_texts

TEXT = "<|im_start|>The Danube rises,\n\n naïvely: 日本 🎉!"


def test_texts_joined_are_the_text(tokenizer):
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts).strip() == tokenizer.decode(ids).strip()


def test_of_nothing_there_is_nothing(tokenizer):
    assert token_texts(tokenizer, []) == []
