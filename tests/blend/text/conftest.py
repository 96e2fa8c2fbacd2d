"""Small tokenizers of the kinds found in the wild, trained on the spot."""

import io
from collections.abc import Callable

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm_pb2
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The prefill computes keys and values for every token of the prompt.",
    "Chunks of documents are computed once;  their keys are rotated to new positions.",
    "A question, then an answer: 0123456789 (naïve café, 東京, emoji 🙂).\n\n\tIndented code {x: y}",
    "the the the token token chunk chunk  cache cache model model answer answer question",
] * 8
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(add_prefix_space: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def sentencepiece_proto(kind: str) -> spm_pb2.ModelProto:
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=trained,
        vocab_size=420,
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    return spm_pb2.ModelProto.FromString(trained.getvalue())


def sentencepiece_model(kind: str) -> models.Model:
    pieces = [(piece.piece, piece.score) for piece in sentencepiece_proto(kind).pieces]
    if kind == "unigram":
        return models.Unigram(pieces, unk_id=0, byte_fallback=True)
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = [
        (vocab[piece], piece[:cut], piece[cut:])
        for piece, _ in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    ranked = [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]
    return models.BPE(vocab, ranked, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def with_dummy_prefix(kind: str, legacy: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(sentencepiece_model(kind))
    if legacy:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


EXACT: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": lambda: byte_level(add_prefix_space=False),
    "bpe-legacy": lambda: with_dummy_prefix("bpe", legacy=True),
    "bpe-metaspace": lambda: with_dummy_prefix("bpe", legacy=False),
    "unigram-legacy": lambda: with_dummy_prefix("unigram", legacy=True),
    "unigram-metaspace": lambda: with_dummy_prefix("unigram", legacy=False),
}


@pytest.fixture(scope="session", params=sorted(EXACT))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Tokenizers whose decoding gives back exactly the text."""
    return EXACT[request.param]()


@pytest.fixture(scope="session")
def prefix_space_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with a space put before every text (as RoBERTa-like tokenizers do)."""
    return byte_level(add_prefix_space=True)
