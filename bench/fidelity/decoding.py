"""Decoding behind a cache: greedily, and teacher-forced along a given answer.

Axes: `A` tokens of an answer, `V` vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel


class Teacher:
    """A model that continues from a cache. All log-probabilities are float32 on the CPU."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self._model: Any = model
        self._tokenizer = tokenizer
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ids = ends if isinstance(ends, list) else [ends]
        self._ends = {*ids, tokenizer.eos_token_id} - {None}

    def prefill(self, token_ids: Sequence[int]) -> DynamicCache:
        """A cache of these tokens, by full prefill."""
        cache = DynamicCache(config=self._model.config)
        if token_ids:
            self._model.get_decoder()(input_ids=self._batch(token_ids), past_key_values=cache, use_cache=True)
        return cache

    def start(self, cache: DynamicCache, suffix_ids: Sequence[int]) -> torch.Tensor:
        """Log-probabilities [V] of the answer's first token; adds the suffix to the cache."""
        return self._step(cache, suffix_ids)[-1]

    def greedy(
        self, cache: DynamicCache, first: torch.Tensor, max_tokens: int
    ) -> tuple[tuple[int, ...], torch.Tensor]:
        """Token ids of the greedy answer, and log-probabilities [A, V]."""
        ids, rows = [int(first.argmax())], [first]
        while ids[-1] not in self._ends and len(ids) < max_tokens:
            rows.append(self._step(cache, ids[-1:])[-1])
            ids.append(int(rows[-1].argmax()))
        return tuple(ids), torch.stack(rows)

    def forced(self, cache: DynamicCache, first: torch.Tensor, token_ids: Sequence[int]) -> torch.Tensor:
        """Log-probabilities [A, V] along a given answer; adds all of it but the last token to the cache."""
        if len(token_ids) == 1:
            return first[None]
        return torch.cat([first[None], self._step(cache, token_ids[:-1])])

    def own_greedy(
        self,
        cache: DynamicCache,
        behind: int,
        forced_ids: Sequence[int],
        logprobs: torch.Tensor,
        max_tokens: int,
    ) -> tuple[int, ...]:
        """The greedy answer: the given one up to where the log-probabilities prefer another token.

        Args:
            cache: as `forced` left it.
            behind: number of tokens before the answer.
            logprobs: [A, V], what `forced` gave.
        """
        best = logprobs.argmax(dim=1).tolist()
        same = next((i for i, (a, b) in enumerate(zip(best, forced_ids, strict=True)) if a != b), None)
        if same is None:
            return tuple(forced_ids)
        crop(cache, behind + same)
        rest, _ = self.greedy(cache, logprobs[same], max_tokens - same)
        return (*forced_ids[:same], *rest)

    def gold_logprob(
        self, cache: DynamicCache, behind: int, first: torch.Tensor, answers: Sequence[str]
    ) -> float | None:
        """Mean log-probability per token of the first gold answer; the cache is cropped to `behind`."""
        ids = self._tokenizer.encode(answers[0], add_special_tokens=False) if answers else []
        crop(cache, behind)
        if not ids:
            return None
        rows = self.forced(cache, first, ids)
        crop(cache, behind)
        return float(rows.gather(1, torch.tensor(ids)[:, None]).mean())

    def text(self, token_ids: Sequence[int]) -> str:
        """The answer without special tokens."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _step(self, cache: DynamicCache, token_ids: Sequence[int]) -> torch.Tensor:
        logits = self._model(self._batch(token_ids), past_key_values=cache, use_cache=True).logits[0]
        return logits.float().log_softmax(dim=-1).cpu()  # type: ignore[no-any-return]

    def _batch(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(token_ids)], device=self._model.device)


def crop(cache: DynamicCache, length: int) -> None:
    """Cut a cache to its first `length` tokens."""
    surplus = cache.get_seq_length() - length
    if surplus > 0:
        cache.crop(-surplus)
