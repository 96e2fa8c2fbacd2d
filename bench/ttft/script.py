"""The requests of one repetition of a case: every arm, on the same prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from bench.combinations import draw
from bench.ttft.arm import AS_GIVEN, BLEND, FULL, PLAIN, RATIOS, REUSE, SORTED, Arm, blend_at, middle
from bench.ttft.backend import Request
from bench.ttft.case import Case
from bench.ttft.prompts import Ids, Prompt, PromptMaker
from bench.ttft.sweeps import COMPARE, CONVERSATION
from blend.settings.defaults import DEFAULTS

ANSWER_TOKENS = 16
"""Of the given answer to a conversation's first turn."""


@dataclass(frozen=True, slots=True)
class Step:
    """Requests of one arm that arrive together."""

    arm: Arm
    requests: tuple[Request, ...]


class Script:
    """Makes the steps of each repetition. Prefix-cache hits across steps happen only in the arms that measure
    them.

    Args:
        maker: of the prompts.
        ratios: of the blends.
        stream_pool: chunks that the prefix-caching arms draw from.
        seed: of what they draw.
    """

    def __init__(
        self, maker: PromptMaker, ratios: tuple[float, ...], stream_pool: int = 24, seed: int = 0
    ) -> None:
        self._maker, self._ratios, self._stream_pool = maker, ratios, stream_pool
        self._rng = np.random.default_rng(seed)
        self._stream_salts = {arm: uuid4().hex for arm in (AS_GIVEN, SORTED)}

    def of(self, sweep: str) -> Callable[[Case, Sequence[Ids], int], list[Step]]:
        """Makes a repetition's steps from case, stored chunks and number of stream prompts."""
        return {COMPARE: self._compare, CONVERSATION: self._conversation}.get(sweep, self._against_full)

    def touch(self, case: Case, pool: Sequence[Ids]) -> list[Step]:
        """Requests that read every stored chunk at the first place of a prompt and at another one: they bring
        both of its versions into memory."""
        turns = [[*pool[i:], *pool[:i]][: case.chunks] for i in range(len(pool))]
        return [Step(REUSE, (self._request(chunks, case),)) for chunks in turns]

    def blend(self, case: Case, pool: Sequence[Ids]) -> Step:
        """One blend at the middle ratio."""
        return Step(blend_at(middle(self._ratios)), (self._request(pool[: case.chunks], case),))

    def _against_full(self, case: Case, pool: Sequence[Ids], stream: int) -> list[Step]:
        """Full prefill and blends of the same prompts."""
        prompts = [self._prompt(self._maker.novel(case, pool), case) for _ in range(case.at_once)]
        arms = [FULL, *map(blend_at, self._ratios)]
        return [Step(arm, tuple(Request(prompt, uuid4().hex) for prompt in prompts)) for arm in arms]

    def _compare(self, case: Case, pool: Sequence[Ids], stream: int) -> list[Step]:
        """Every arm; then the same blend again."""
        full, *blends = self._against_full(case, pool, stream)
        reuse = Step(REUSE, (Request(full.requests[0].prompt, uuid4().hex),))
        ratio = middle(self._ratios)
        (twice,) = [step for step in blends if step.arm.ratio == ratio]
        again = Step(blend_at(ratio, "again"), twice.requests)
        return [full, *self._stream(case, stream), reuse, *blends, again]

    def _stream(self, case: Case, num: int) -> list[Step]:
        """The next prompts of the stream, in the order given and in the order of their popularity."""
        steps = []
        chunks = [self._maker.chunk(f"popular {rank}", case.tokens) for rank in range(self._stream_pool)]
        for _ in range(num):
            drawn = draw(self._stream_pool, case.chunks, self._rng)
            question = self._maker.question(case.question_tokens)
            for arm, ranks in ((AS_GIVEN, drawn), (SORTED, sorted(drawn))):
                prompt = self._maker.prompt([chunks[rank] for rank in ranks], question)
                steps.append(Step(arm, (Request(prompt, self._stream_salts[arm]),)))
        return steps

    def _conversation(self, case: Case, pool: Sequence[Ids], stream: int) -> list[Step]:
        """The same request again, another question on the same context, and a follow-up, in both engines.

        The first answer, which a follow-up repeats, is given text: it is in neither engine's prefix cache.
        """
        chunks = self._maker.novel(case, pool)
        questions = [self._maker.question(case.question_tokens) for _ in range(3)]
        answer = self._maker.chunk("an answer", ANSWER_TOKENS)
        first, other = (self._maker.prompt(chunks, question) for question in questions[:2])
        follow_up = self._maker.prompt(chunks, questions[2], [(questions[0], answer)])
        ratio, salts = middle(self._ratios), {PLAIN: uuid4().hex, BLEND: uuid4().hex}
        asked = {"again": first, "other question": other, "follow-up": follow_up}
        arms = [(FULL, first), (blend_at(ratio), first)]
        for name, prompt in asked.items():
            arms += [(Arm(f"full, {name}", PLAIN), prompt), (blend_at(ratio, name), prompt)]
        return [Step(arm, (Request(prompt, salts[arm.engine]),)) for arm, prompt in arms]

    def _request(self, chunks: Sequence[Ids], case: Case) -> Request:
        return Request(self._prompt(chunks, case), uuid4().hex)

    def _prompt(self, chunks: Sequence[Ids], case: Case) -> Prompt:
        return self._maker.prompt(chunks, self._maker.question(case.question_tokens))


def ratios_of(sweep: str) -> tuple[float, ...]:
    """The default ratios of a sweep: only the comparison varies them.

    >>> ratios_of("known")
    (0.15,)
    """
    return RATIOS if sweep == COMPARE else (DEFAULTS.recompute_ratio,)
