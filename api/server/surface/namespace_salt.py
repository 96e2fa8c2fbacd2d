"""The cache salt that the server gives each request, so that namespaces find nothing of each other's."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from types import AsyncGeneratorType
from typing import Any

from blend.chunks.namespace import salted

_PLACE = "cache_salt"
_DECODER = "decoder_prompt"


def with_salt(prompt: Any, namespace: str) -> Any:
    """A prompt in any form that vLLM's engine takes, with its namespace in its salt; the prompt itself stays.

    Args:
        prompt: text, token ids, a mapping, an engine's own request, or a stream of such prompts.

    Raises:
        TypeError: it is none of these, so that no prompt passes without a salt.
    """
    if isinstance(prompt, dict) and _DECODER not in prompt and (namespace or prompt.get(_PLACE)):
        return {**prompt, _PLACE: salted(namespace, prompt.get(_PLACE))}
    if not namespace:
        return prompt
    if isinstance(prompt, str):
        return {"prompt": prompt, _PLACE: salted(namespace, None)}
    if isinstance(prompt, list):
        return {"prompt_token_ids": prompt, _PLACE: salted(namespace, None)}
    if isinstance(prompt, dict):
        if isinstance(prompt.get(_DECODER), dict | str | list):
            return {**prompt, _DECODER: with_salt(prompt[_DECODER], namespace)}
        return {**prompt, _PLACE: salted(namespace, prompt.get(_PLACE))}  # encoder and decoder in one
    if isinstance(prompt, AsyncGeneratorType):
        return _each(prompt, namespace)
    if hasattr(prompt, _PLACE):  # vLLM's EngineCoreRequest, made for this call
        setattr(prompt, _PLACE, salted(namespace, prompt.cache_salt))
        return prompt
    raise TypeError(f"got a prompt of {type(prompt).__name__}, to which no cache salt can be given")


async def _each(stream: AsyncGenerator[Any, None], namespace: str) -> AsyncGenerator[Any, None]:
    async for part in stream:
        yield replace(part, prompt=with_salt(part.prompt, namespace))
