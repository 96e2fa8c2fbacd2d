"""The lead: the same ids as its text has in a prompt, in the same number for all."""

from transformers import PreTrainedTokenizerFast

from blend.text.frame import SEPARATOR
from blend.text.lead import PASSAGES, lead_ids
from blend.text.pieces import PieceTokenizer


def test_passages_stand_in_it_as_chunks_stand_in_a_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    encode = PieceTokenizer(tokenizer).encode
    ids = lead_ids(encode)
    separator, start = encode(SEPARATOR), 0
    for passage in PASSAGES:
        expected = (*encode(passage), *separator)
        assert ids[start : start + len(expected)] == expected
        start += len(expected)
    assert len(ids) == start
    assert tokenizer.decode(ids).strip() == SEPARATOR.join(PASSAGES)


def test_it_is_a_few_short_texts_of_one_kind_each() -> None:
    assert len(PASSAGES) == 4
    assert all(400 < len(passage) < 600 for passage in PASSAGES)
    # As chunks are: no white space at their ends, which the separators bring.
    assert all(passage == passage.strip() for passage in PASSAGES)
