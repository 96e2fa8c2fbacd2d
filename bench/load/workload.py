"""Requests to a server and their times: Poisson arrivals that draw chunks by popularity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from api.server.chat.retrieval import Message, lay_out
from bench.combinations import draw


@dataclass(frozen=True, slots=True)
class Corpus:
    """The chunks and the prefix of a collection.

    Attributes:
        prefix: the collection's; may be empty.
        texts: the chunks', the most popular first.
        system_role: see `api.server.chat.retrieval.has_system_role`.
    """

    prefix: str
    texts: tuple[str, ...]
    system_role: bool

    def messages(self, question: str, chunks: Sequence[int]) -> list[Message]:
        """A chat as a client sends it that has retrieved these chunks and pastes them."""
        texts = [self.texts[chunk] for chunk in chunks]
        asked = [{"role": "user", "content": question}]
        return lay_out(asked, self.prefix, texts, system_role=self.system_role)


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix of requests.

    Attributes:
        passages: chunks of a request with chunks.
        share: of requests with chunks, in [0, 1]; the others are short, and mostly decode.
        exponent: of the chunks' popularity, see `bench.combinations.draw`.
    """

    passages: int
    share: float
    exponent: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request.

    Attributes:
        at_s: arrival, in seconds from the start of the run.
        chunks: numbers of its chunks, in their order; none for a short request.
    """

    at_s: float
    question: str
    chunks: tuple[int, ...]


def workload(num_chunks: int, mix: Mix, rate: float, seconds: float, seed: tuple[int, ...]) -> list[Arrival]:
    """The requests of a run, in order; the same seed gives the same ones.

    Args:
        rate: requests a second, on average.
        seconds: within which they arrive.
    """
    rng = np.random.default_rng(seed)
    return [
        _arrival(at_s, number, num_chunks, mix, rng)
        for number, at_s in enumerate(poisson_arrivals(rate, seconds, rng))
    ]


def poisson_arrivals(rate: float, seconds: float, rng: np.random.Generator) -> list[float]:
    """Times of a Poisson process, ascending: given their number, they are uniform.

    >>> times = poisson_arrivals(10.0, 2.0, np.random.default_rng(0))
    >>> times == sorted(times) and 0 <= times[0] and times[-1] < 2.0
    True
    """
    return [float(at_s) for at_s in np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))]


def _arrival(at_s: float, number: int, num_chunks: int, mix: Mix, rng: np.random.Generator) -> Arrival:
    # Drawn for short requests too: another share then leaves the remaining requests as they are.
    chunks = draw(num_chunks, mix.passages, rng, mix.exponent)
    if rng.random() < mix.share:
        return Arrival(at_s, f"Request {number}: what do these pages say about memory?", chunks)
    return Arrival(at_s, f"Request {number}: tell a story about a lighthouse.", ())


def prompt_row(corpus: Corpus, arrival: Arrival, max_tokens: int) -> dict[str, Any]:
    """A line of a data file for `vllm bench serve --dataset-name custom`: the prompt of one user message."""
    *_, message = corpus.messages(arrival.question, arrival.chunks)
    return {"prompt": message["content"], "output_tokens": max_tokens}
