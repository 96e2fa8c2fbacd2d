"""The laboratory on a Hugging Face model: sees every layer's keys and values, and runs any method."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel

from bench.cost import blend_flops, full_flops, shape_of
from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.decoding import Teacher, crop
from bench.fidelity.hf_chunks import ChunkSource
from bench.fidelity.methods import LED, NONE, Method
from bench.fidelity.oracle import Oracle, true_deviation
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV
from blend.errors import RequestError
from blend.hf.blender import HFBlend, blend
from blend.models.fingerprint import fingerprint
from blend.models.resolve import resolve
from blend.select import selector as selector_of
from blend.select.base import Selector


class HFBackend:
    """A model in float32 on the CPU or the first CUDA device.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        threads: of torch; its own choice when None.
    """

    name = "hf"

    def __init__(self, model: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        folder = resolve(model)
        self.model_name = folder.name
        self.fingerprint = fingerprint(folder.path, "float32")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder.path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder.path, dtype=torch.float32)
        self._model: PreTrainedModel | None = loaded.to(device).eval()
        self._teacher = Teacher(self._model, self.tokenizer)
        self._shape = shape_of(self._model)
        self._chunks = ChunkSource(self._model, self.fingerprint, self.tokenizer)
        self._full: DynamicCache | None = None
        self._max_tokens = 0

    @torch.no_grad()
    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        """Full prefill's greedy answer; see `Backend`."""
        model = self._loaded()
        limit = model.config.max_position_embeddings
        if len(prompt.prompt_ids) + max_tokens > limit:
            raise RequestError(
                f"question {prompt.key}: got a prompt of {len(prompt.prompt_ids)} tokens, expected at most "
                f"{limit - max_tokens} (the model's length less the answer's); use fewer passages"
            )
        context = prompt.prompt_ids[: prompt.context_tokens]
        started = time.perf_counter()
        cache = self._teacher.prefill(context)
        first = self._teacher.start(cache, prompt.suffix_ids)
        ms = (time.perf_counter() - started) * 1e3
        token_ids, logprobs = self._teacher.greedy(cache, first, max_tokens)
        gold = self._teacher.gold_logprob(cache, len(prompt.prompt_ids), first, prompt.answers)
        crop(cache, prompt.context_tokens)
        self._full, self._max_tokens = cache, max_tokens
        return Reference(token_ids, logprobs, self._teacher.text(token_ids), gold, ms)

    @torch.no_grad()
    def measure(self, prompt: LabPrompt, reference: Reference, method: Method) -> Outcome:
        """One method on one prompt; see `Backend`."""
        self._loaded()
        if method.chunks == NONE:
            return self._without_context(prompt, reference)
        assert self._full is not None, "the reference comes first"
        rule = self._rule(prompt, method)
        chunks = self._chunks.of(prompt, method.chunks)
        started = time.perf_counter()
        blended = self._blend(prompt, method, chunks, rule)
        first = self._teacher.start(blended.cache, prompt.suffix_ids)
        ms = (time.perf_counter() - started) * 1e3
        key_error, value_error = _errors(blended.cache, self._full, prompt.context_tokens)
        selected = tuple(blended.selected.tolist())
        flops = blend_flops(self._shape, rule, selected, prompt.context_tokens, len(prompt.suffix_ids))
        outcome = self._outcome(
            prompt, reference, blended.cache, first, ms, flops, selected, key_error, value_error
        )
        return replace(outcome, residual=blended.stats.residual)

    @torch.no_grad()
    def forced(
        self, prompt: LabPrompt, reference: Reference, recode: Callable[[ChunkKV], ChunkKV]
    ) -> torch.Tensor:
        """The default blend of chunks that were recoded; see `bench.fidelity.codec_run.CodingBackend`."""
        chunks = [recode(chunk) for chunk in self._chunks.of(prompt, LED)]
        blended = blend(self._loaded(), prompt.prompt_ids, chunks)
        first = self._teacher.start(blended.cache, prompt.suffix_ids)
        return self._teacher.forced(blended.cache, first, reference.token_ids)

    def compute(self, texts: Sequence[str]) -> list[ChunkKV]:
        """Chunk KV of texts, as it is stored: behind the lead."""
        return self._chunks.behind_lead(texts)

    def close(self) -> None:
        """Release the model."""
        self._model = self._full = None
        self._chunks.clear()

    def _loaded(self) -> PreTrainedModel:
        assert self._model is not None, "the backend was closed"
        return self._model

    def _rule(self, prompt: LabPrompt, method: Method) -> Selector | None:
        if method.selector is None:
            return None
        if method.selector != Oracle.name:
            return selector_of(method.selector)
        assert self._full is not None
        reused = self._blend(prompt, method, self._chunks.of(prompt, method.chunks), None)
        return Oracle(true_deviation(_values(reused.cache), _values(self._full)))

    def _blend(
        self, prompt: LabPrompt, method: Method, chunks: Sequence[ChunkKV], rule: Selector | None
    ) -> HFBlend:
        ratio = 0.0 if rule is None else method.ratio
        chosen: str | Selector = "first" if rule is None else rule
        return blend(self._loaded(), prompt.prompt_ids, chunks, recompute_ratio=ratio, selector=chosen)

    def _without_context(self, prompt: LabPrompt, reference: Reference) -> Outcome:
        started = time.perf_counter()
        cache = self._teacher.prefill(prompt.prefix_ids)
        first = self._teacher.start(cache, prompt.suffix_ids)
        ms = (time.perf_counter() - started) * 1e3
        flops = full_flops(self._shape, len(prompt.prefix_ids) + len(prompt.suffix_ids))
        return self._outcome(prompt, reference, cache, first, ms, flops, (), (), ())

    def _outcome(
        self,
        prompt: LabPrompt,
        reference: Reference,
        cache: DynamicCache,
        first: torch.Tensor,
        ms: float,
        flops: int,
        selected: tuple[int, ...],
        key_error: tuple[float, ...],
        value_error: tuple[float, ...],
    ) -> Outcome:
        behind = cache.get_seq_length()
        gold = self._teacher.gold_logprob(cache, behind, first, prompt.answers)
        logprobs = self._teacher.forced(cache, first, reference.token_ids)
        own = self._teacher.own_greedy(cache, behind, reference.token_ids, logprobs, self._max_tokens)
        return Outcome(
            logprobs=logprobs,
            text=self._teacher.text(own),
            gold_logprob=gold,
            key_error=key_error,
            value_error=value_error,
            flops_share=flops / full_flops(self._shape, len(prompt.prompt_ids)),
            ms=ms,
            selected=selected,
        )


def _values(cache: DynamicCache) -> torch.Tensor:
    layers: list[Any] = cache.layers
    return torch.stack([layer.values[0].transpose(0, 1) for layer in layers])  # [L, N, H, D]


def _errors(
    got: DynamicCache, full: DynamicCache, num_tokens: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Relative Frobenius error of keys and of values, per layer."""
    layers: list[tuple[Any, Any]] = list(zip(got.layers, full.layers, strict=True))

    def error(own: torch.Tensor, right: torch.Tensor) -> float:
        own, right = own[:, :, :num_tokens], right[:, :, :num_tokens]
        return float((own - right).norm() / right.norm())

    return tuple(error(a.keys, b.keys) for a, b in layers), tuple(
        error(a.values, b.values) for a, b in layers
    )
