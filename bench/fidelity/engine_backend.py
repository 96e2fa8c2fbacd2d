"""The laboratory on the engine: the same figures, from the path that serves requests."""

import uuid
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.cost import blend_flops, full_flops, shape_of_folder
from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.engine_chunks import EngineChunks
from bench.fidelity.methods import NONE, Method
from bench.fidelity.oracle import Oracle
from bench.fidelity.question import Ids, LabPrompt
from blend.errors import NotBlendable, RequestError
from blend.select import selector as selector_of
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.calibrate import FORCING_ENGINE, FULL_PREFILL, forced_answer
from blend.vllm.engine.engine import Engine
from blend.vllm.request_params import BlendParams


class EngineBackend:
    """A model in float32 in vLLM, with a temporary store.

    The engine does not show keys and values, so errors of KV stay empty. Every request has a cache salt of
    its own: none finds blocks of another one in the prefix cache.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        overrides: any argument of vLLM's `AsyncEngineArgs`, such as `max_model_len`.

    Attributes:
        engine: answers the requests.

    Raises:
        NotBlendable: the model's KV cannot be blended.
    """

    name = "engine"

    def __init__(self, model: str, **overrides: Any) -> None:
        arguments = FORCING_ENGINE | {"dtype": "float32"} | overrides
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="kvblend-")))
            engine = Engine(model, folder / "store", self_check=False, **arguments)
            stack.callback(engine.close)
            if engine.setup.not_blendable is not None:
                raise NotBlendable(engine.setup.not_blendable)
            self._chunks = EngineChunks(engine, folder / "shelf")
            self._shape = shape_of_folder(engine.setup.arguments["model"])
            self._held = stack.pop_all()
        self.engine = engine
        self.model_name = engine.setup.model_name
        self.fingerprint = engine.fingerprint
        self.tokenizer: Any = engine.tokenizer
        self._max_tokens = 0

    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        """Full prefill's greedy answer; see `Backend`."""
        limit = self.engine.max_model_len - max(max_tokens, len(self._gold(prompt)))
        if len(prompt.prompt_ids) > limit:
            raise RequestError(
                f"question {prompt.key}: got a prompt of {len(prompt.prompt_ids)} tokens, expected at most "
                f"{limit} (the model's length less the answer's); use fewer passages"
            )
        self._max_tokens = max_tokens
        own = self._greedy(prompt.prompt_ids, FULL_PREFILL)
        return Reference(
            token_ids=own.token_ids,
            logprobs=self._logprobs(prompt.prompt_ids, FULL_PREFILL, own.token_ids),
            text=self._text(own),
            gold_logprob=self._gold_logprob(prompt, prompt.prompt_ids, FULL_PREFILL),
            ms=own.ttft_ms,
        )

    def measure(self, prompt: LabPrompt, reference: Reference, method: Method) -> Outcome:
        """One method on one prompt; see `Backend`."""
        if method.selector == Oracle.name:
            raise RequestError(
                f"got method {method.name!r}, a rule of the laboratory that the engine does not know; "
                "use --backend hf"
            )
        if method.chunks == NONE:
            ids = prompt.prefix_ids + prompt.suffix_ids
            return self._outcome(prompt, reference, ids, FULL_PREFILL, method)
        self._chunks.show(prompt, method.chunks)
        params = BlendParams(
            recompute_ratio=0.0 if method.selector is None else method.ratio,
            selector=method.selector or "first",
            gate_key=self.engine.setup.settings.gate_key,
            trace=True,
        )
        return self._outcome(prompt, reference, prompt.prompt_ids, params, method)

    def close(self) -> None:
        """Stop the engine and remove its store; a second call does nothing."""
        self._held.close()

    def _outcome(
        self, prompt: LabPrompt, reference: Reference, ids: Ids, params: BlendParams, method: Method
    ) -> Outcome:
        # Timed without log-probabilities, which cost more than a token.
        own = self._greedy(ids, params)
        selected = own.stats.selected
        return Outcome(
            logprobs=self._logprobs(ids, params, reference.token_ids),
            text=self._text(own),
            gold_logprob=self._gold_logprob(prompt, ids, params),
            key_error=(),
            value_error=(),
            flops_share=self._flops_share(prompt, ids, params, method, selected),
            ms=own.ttft_ms,
            selected=selected,
            residual=own.stats.residual,
        )

    def _flops_share(
        self, prompt: LabPrompt, ids: Ids, params: BlendParams, method: Method, selected: Ids
    ) -> float:
        if params.enabled:
            rule = None if method.selector is None else selector_of(method.selector)
            suffix = len(prompt.suffix_ids)
            flops = blend_flops(self._shape, rule, selected, prompt.context_tokens, suffix)
        else:
            flops = full_flops(self._shape, len(ids))
        return flops / full_flops(self._shape, len(prompt.prompt_ids))

    def _greedy(self, ids: Ids, params: BlendParams) -> Answer:
        answer = self.engine.submit(Ask(ids, params, self._max_tokens, 0.0, uuid.uuid4().hex))
        if params.enabled and answer.stats.fallback is not None:
            raise RequestError(f"the engine did not blend the prompt: {answer.stats.fallback}")
        return answer

    def _logprobs(self, ids: Ids, params: BlendParams, answer_ids: Ids) -> torch.Tensor:
        """Log-probabilities [A, V] along a given answer."""
        answer = forced_answer(self.engine, ids, params, answer_ids)
        assert answer.logprobs is not None
        return answer.logprobs

    def _gold_logprob(self, prompt: LabPrompt, ids: Ids, params: BlendParams) -> float | None:
        gold = self._gold(prompt)
        if not gold:
            return None
        rows = self._logprobs(ids, params, gold)
        return float(rows.gather(1, torch.tensor(gold)[:, None]).mean())

    def _gold(self, prompt: LabPrompt) -> Ids:
        """Tokens of the first gold answer."""
        answers = prompt.answers
        return tuple(self.tokenizer.encode(answers[0], add_special_tokens=False)) if answers else ()

    def _text(self, answer: Answer) -> str:
        return str(self.tokenizer.decode(answer.token_ids, skip_special_tokens=True))
