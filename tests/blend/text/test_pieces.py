"""Pieces tokenised apart join to ids that decode to exactly the text, and hold each chunk's ids whole."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from blend.errors import NotBlendable
from blend.text.chunk_texts import ChunkTexts, Piece
from blend.text.pieces import PieceTokenizer
from tests.blend.text.conftest import byte_level

# A surrogate is no text, and "▁" is how SentencePiece writes a space: decoding cannot tell them apart.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="▁")
WORDS = st.sampled_from(
    [" ", "  ", "\n", "\n\n", "\t", "the", "token", "chunk ", " cache", "é", "東京", "🙂", "0"]
)
TEXTS = st.lists(WORDS | st.text(CHARACTERS, max_size=4), max_size=12).map("".join)
CHUNK = "Chunks of documents are computed once"
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def encode_segmented(
    pieces: PieceTokenizer, chunk_texts: ChunkTexts, text: str, add_special_tokens: bool
) -> list[int]:
    """Ids of a prompt in which known chunk texts may stand, as `blend.vllm.tokenizer` makes them."""
    parts = chunk_texts.split(text)
    if not any(part.is_chunk for part in parts):
        return list(pieces.tokenizer.encode(text, add_special_tokens=add_special_tokens))
    return pieces.join(parts, add_special_tokens)


@pytest.fixture(scope="session")
def pieces(tokenizer: PreTrainedTokenizerFast) -> PieceTokenizer:
    return PieceTokenizer(tokenizer)


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text of ids, the tokenizer's own BOS left out."""
    bos = tokenizer.bos_token_id
    return str(tokenizer.decode(ids[1:] if bos is not None and ids[:1] == [bos] else ids))


def stands_in(part: list[int], whole: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) + 1))


def kept(tokenizer: PreTrainedTokenizerFast, text: str, starts_with_chunk: bool = False) -> str:
    """What the tokenizer itself keeps of a text: Metaspace takes a leading space for its dummy prefix."""
    metaspace = isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.Metaspace)
    return text.removeprefix(" ") if metaspace and not starts_with_chunk else text


@RELAXED
@given(parts=st.lists(st.tuples(TEXTS, st.booleans()), max_size=5), special=st.booleans())
def test_joined_ids_decode_to_exactly_the_text(
    tokenizer: PreTrainedTokenizerFast,
    pieces: PieceTokenizer,
    parts: list[tuple[str, bool]],
    special: bool,
) -> None:
    parts = [(text.replace("<", "("), is_chunk) for text, is_chunk in parts]
    ids = pieces.join([Piece(*part) for part in parts], add_special_tokens=special)
    starts_with_chunk = next((is_chunk for text, is_chunk in parts if text), False)
    assert decode(tokenizer, ids) == kept(tokenizer, "".join(text for text, _ in parts), starts_with_chunk)
    for text, is_chunk in parts:
        assert not is_chunk or stands_in(pieces.encode(text), ids)


@RELAXED
@given(text=TEXTS, special=st.booleans())
def test_a_text_without_known_chunks_is_tokenised_as_ever(
    tokenizer: PreTrainedTokenizerFast, pieces: PieceTokenizer, text: str, special: bool
) -> None:
    plain = tokenizer.encode(text, add_special_tokens=special)
    assert encode_segmented(pieces, ChunkTexts([CHUNK]), text, special) == plain
    assert pieces.join([Piece(text, False)], special) == plain


@RELAXED
@given(before=TEXTS, between=TEXTS, after=TEXTS, special=st.booleans())
def test_a_chunk_has_the_same_ids_wherever_it_stands(
    tokenizer: PreTrainedTokenizerFast,
    pieces: PieceTokenizer,
    before: str,
    between: str,
    after: str,
    special: bool,
) -> None:
    text = before + CHUNK + between + CHUNK + after
    ids = encode_segmented(pieces, ChunkTexts([CHUNK]), text, special)
    chunk = pieces.encode(CHUNK)
    places = [i for i in range(len(ids)) if ids[i : i + len(chunk)] == chunk]
    assert len(places) >= 2
    assert decode(tokenizer, ids) == kept(tokenizer, text)


@RELAXED
@given(
    text=st.lists(st.sampled_from(["<s>", "</s>", "<|im_end|>", "s>", "<", " ", "the", "<<s>"]), max_size=8)
)
def test_a_document_cannot_write_control_tokens(
    tokenizer: PreTrainedTokenizerFast, pieces: PieceTokenizer, text: list[str]
) -> None:
    chunk = "".join(text)
    ids = pieces.encode(chunk)
    assert not set(ids) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    # With the dummy prefix as a token before it, as in the middle of a prompt, nothing is stripped.
    whole = pieces.join([Piece("x", False), Piece(chunk, True)], add_special_tokens=False)
    assert decode(tokenizer, whole) == "x" + chunk


def test_a_control_token_of_one_character_is_data_in_a_document_too() -> None:
    tokenizer = byte_level(add_prefix_space=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["★"]})
    control = tokenizer.convert_tokens_to_ids("★")
    pieces = PieceTokenizer(tokenizer)
    assert control in pieces.encode_markup("see ★4")
    assert control not in pieces.encode("see ★4")
    assert tokenizer.decode(pieces.encode("see ★4")) == "see ★4"


def test_control_tokens_outside_chunks_count_as_the_tokenizer_has_it(
    tokenizer: PreTrainedTokenizerFast, pieces: PieceTokenizer
) -> None:
    control = "<|im_end|>" if "<|im_end|>" in tokenizer.get_vocab() else "</s>"
    end = tokenizer.convert_tokens_to_ids(control)
    after = f"{control}\nthe answer{control} and more"
    for chunk in (CHUNK, f"A document that writes {control} in its own text"):
        ids = encode_segmented(pieces, ChunkTexts([chunk]), f"Read: {chunk}\n the{after}", True)
        assert ids.count(end) == 2
        # From the first control token on, ids are those of the tokenizer itself.
        assert ids[ids.index(end) :] == tokenizer.encode(after, add_special_tokens=False)
        assert stands_in(pieces.encode(chunk), ids)


def test_the_tokenizers_own_first_and_last_tokens_stay_first_and_last(
    tokenizer: PreTrainedTokenizerFast, pieces: PieceTokenizer
) -> None:
    for text in (CHUNK, f"Read: {CHUNK}", f"{CHUNK} the end"):
        ids = encode_segmented(pieces, ChunkTexts([CHUNK]), text, True)
        bare = encode_segmented(pieces, ChunkTexts([CHUNK]), text, False)
        assert ids == ([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]) + bare
    assert pieces.encode_start("Read: ", True) == tokenizer.encode("Read: ", add_special_tokens=True)


def test_a_text_that_ends_with_a_token_of_its_own_keeps_it_at_the_end_only(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    closing = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    name = "</s>" if "</s>" in tokenizer.get_vocab() else "<|im_end|>"
    end = tokenizer.convert_tokens_to_ids(name)
    closing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {name}", special_tokens=[(name, end)]
    )
    joined = PieceTokenizer(closing).join([Piece("Read: ", False), Piece(CHUNK, True)], True)
    assert joined.count(end) == 1
    assert joined[-1] == end


def test_a_space_put_before_every_text_is_not_put_before_pieces(
    prefix_space_tokenizer: PreTrainedTokenizerFast,
) -> None:
    pieces = PieceTokenizer(prefix_space_tokenizer)
    text = f"Read:{CHUNK}!"
    ids = encode_segmented(pieces, ChunkTexts([CHUNK]), text, False)
    assert prefix_space_tokenizer.decode(ids) == " " + text
    assert ids[: -len(pieces.encode(CHUNK)) - 1] == prefix_space_tokenizer.encode("Read:")
    assert prefix_space_tokenizer.decode(encode_segmented(pieces, ChunkTexts([CHUNK]), CHUNK, False)) == CHUNK


def test_padding_and_truncation_of_the_tokenizer_do_not_reach_pieces(
    tokenizer: PreTrainedTokenizerFast, pieces: PieceTokenizer
) -> None:
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(3)
    backend.enable_padding(length=64)
    try:
        cut = PieceTokenizer(tokenizer)
    finally:
        backend.no_truncation()
        backend.no_padding()
    assert cut.encode(CHUNK) == pieces.encode(CHUNK)
    assert len(cut.encode(CHUNK)) > 3


def test_a_tokenizer_without_a_fast_form_is_refused_by_name() -> None:
    class SlowTokenizer:
        pass

    with pytest.raises(NotBlendable, match="SlowTokenizer has no fast form"):
        PieceTokenizer(SlowTokenizer())
