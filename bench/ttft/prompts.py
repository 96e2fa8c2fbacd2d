"""Prompts of an exact length, each a novel combination of chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from math import perm
from random import Random

from bench.ttft.case import Case
from blend.text.frame import SEPARATOR, ChatFrame
from blend.text.pieces import PieceTokenizer

Ids = tuple[int, ...]

PREFIX = "Answer the question from the documents. Be brief."
SPARE_CHUNKS = 2
_QUESTION = "\ue0a5question\ue0a6"  # private use: in no template and no text


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts that prompts are made of.

    Attributes:
        name: of their source.
        passages, questions: at least one of each, none empty.
    """

    name: str
    passages: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, cut behind the last chunk.

    Attributes:
        context_ids: prefix and chunks, up to the end of the last chunk.
        suffix_ids: everything behind it.
    """

    context_ids: Ids
    suffix_ids: Ids

    @property
    def ids(self) -> Ids:
        return self.context_ids + self.suffix_ids


class PromptMaker:
    """Makes chunks and prompts for one model; the same seed and calls give the same ones.

    Args:
        tokenizer: a Hugging Face fast tokenizer, the model's own.
        texts: cut up and shuffled.

    Attributes:
        prefix_ids: the prefix of all prompts.
    """

    def __init__(self, tokenizer: object, texts: Texts, seed: int = 0) -> None:
        self._pieces, frame = PieceTokenizer(tokenizer), ChatFrame(tokenizer)
        self._texts, self._seed = texts, seed
        self._separator = tuple(self._pieces.encode(SEPARATOR))
        self.prefix_ids = tuple(self._pieces.encode_start(frame.head(PREFIX), frame.add_special_tokens))
        before, _, after = frame.tail(_QUESTION).partition(_QUESTION)
        self._before = tuple(self._pieces.encode_markup(before))
        self._after = tuple(self._pieces.encode_markup(after))
        self._random = Random(f"{seed} combinations")
        self._fresh = count()
        self._seen: set[Ids] = set()

    @property
    def fixed_tokens(self) -> int:
        """Tokens of a prompt without chunks and question."""
        return len(self.prefix_ids) + len(self._before) + len(self._after)

    def chunk(self, name: str, num_tokens: int) -> Ids:
        """A chunk of exactly so many tokens; every name gives another text."""
        return self._cut(f"Page {name} of {num_tokens}.", self._texts.passages, num_tokens)

    def pool(self, size: int, num_tokens: int) -> list[Ids]:
        """The first chunks of the pool of a size; a larger pool begins with the same ones."""
        return [self.chunk(f"{number}", num_tokens) for number in range(size)]

    def question(self, num_tokens: int) -> Ids:
        """A new question of exactly so many tokens."""
        return self._cut(f"{next(self._fresh)}:", self._texts.questions, num_tokens)

    def prompt(self, chunks: Sequence[Ids], question: Ids, turns: Sequence[tuple[Ids, Ids]] = ()) -> Prompt:
        """Chunks and a question; earlier turns of the conversation stand before it.

        Args:
            turns: earlier questions and their answers.
        """
        context = list(self.prefix_ids)
        for number, chunk in enumerate(chunks):
            context += self._separator if number else ()
            context += chunk
        said = [token for asked, answered in turns for token in (*self._turn(asked), *answered)]
        return Prompt(tuple(context), (*said, *self._turn(question)))

    def _turn(self, question: Ids) -> Ids:
        return self._before + question + self._after

    def novel(self, case: Case, pool: Sequence[Ids]) -> list[Ids]:
        """Chunks in a combination or an order that was not drawn before.

        Args:
            pool: stored chunks; `pool_size` says how many there must be. Those that are not known are new.
        """
        while True:
            drawn = self._random.sample(list(pool), case.chunks)
            if tuple(hash(chunk) for chunk in drawn) not in self._seen:
                break
        self._seen.add(tuple(hash(chunk) for chunk in drawn))
        for place in self._random.sample(range(case.chunks), case.chunks - case.known_chunks):
            drawn[place] = self.chunk(f"new {next(self._fresh)}", case.tokens)
        return drawn

    def _cut(self, name: str, texts: Sequence[str], num_tokens: int) -> Ids:
        """A name and shuffled texts, cut to so many tokens."""

        def endless() -> Iterator[int]:
            random = Random(f"{self._seed} {name}")
            yield from self._pieces.encode(name)
            while True:
                for text in random.sample(texts, len(texts)):
                    yield from self._pieces.encode(f" {text}")

        return tuple(islice(endless(), num_tokens))


def pool_size(chunks: int, prompts: int) -> int:
    """Stored chunks from which so many prompts can be drawn without drawing one twice.

    >>> pool_size(6, 10), pool_size(1, 10)
    (8, 10)
    """
    return next(size for size in count(chunks + SPARE_CHUNKS) if perm(size, chunks) >= prompts)


def built_in_texts() -> Texts:
    """Sentences that the project owns."""
    from blend.text.lead import PASSAGES
    from blend.vllm.gate.prompts import PROMPTS

    own = dict.fromkeys([*PASSAGES, *(text for prompt in PROMPTS for text in prompt.passages)])
    sentences = [f"{line}." for text in own for line in text.removesuffix(".").split(". ")]
    return Texts("built-in", tuple(sentences), tuple(prompt.question for prompt in PROMPTS))
