"""The extra body fields `rag` and `blend`, and how they travel to the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import FieldError
from blend.vllm.request_params import KEY, BlendParams
from retriever.config import DEFAULTS

Ratio = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] | Literal["auto"]
Model = TypeVar("Model", bound=BaseModel)


class BlendOptions(BaseModel):
    """What a request may say about its blend; whatever it leaves out is the engine's default.

    Attributes:
        recompute_ratio: share of context tokens that are recomputed, in [0, 1], or "auto".
        selector: rule that picks them.
        enabled: False asks for a full prefill of the same prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    recompute_ratio: Ratio | None = None
    selector: str | None = None
    enabled: bool | None = None


class RagOptions(BaseModel):
    """What a chat request says when it wants chunks retrieved for it.

    Attributes:
        collection: one of the server's collections.
        top_k: how many chunks to put into the prompt.
        recompute_ratio, selector: as in `BlendOptions`, and before them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    collection: str
    top_k: Annotated[int, Field(ge=1, le=256)] = DEFAULTS.top_k
    recompute_ratio: Ratio | None = None
    selector: str | None = None


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The two fields of one request, checked."""

    rag: RagOptions | None
    blend: BlendOptions

    def merged(self) -> BlendOptions:
        """The blend's options, where `rag` goes before `blend`.

        >>> rag = RagOptions(collection="c", recompute_ratio=0.5)
        >>> RequestOptions(rag, BlendOptions(recompute_ratio=0.1, selector="first")).merged()
        BlendOptions(recompute_ratio=0.5, selector='first', enabled=None)
        """
        if self.rag is None:
            return self.blend
        said = self.rag.model_dump(include={"recompute_ratio", "selector"}, exclude_none=True)
        return self.blend.model_copy(update=said)


def read_options(body: Mapping[str, Any] | None) -> RequestOptions:
    """Check the extra fields of a request's body.

    Args:
        body: fields that OpenAI's schema does not know; fields other than ours are left alone.

    Raises:
        FieldError: an unknown key, a wrong type, or a value out of range.

    >>> read_options({"rag": {"collection": "docs"}, "other": 1}).rag.top_k
    6
    """
    body = body or {}
    rag = body.get("rag")
    return RequestOptions(
        rag=None if rag is None else _check(RagOptions, "rag", rag),
        blend=_check(BlendOptions, "blend", body.get("blend") or {}),
    )


def transfer_params(options: BlendOptions) -> dict[str, Any]:
    """The engine's per-request parameters, in the only form that vLLM carries to a connector.

    >>> transfer_params(BlendOptions(recompute_ratio=0.5))
    {'kvblend': {'enabled': True, 'recompute_ratio': 0.5}}
    """
    enabled = options.enabled is not False
    return BlendParams(enabled, options.recompute_ratio, options.selector).to_transfer()


def check_transfer_params(params: Any) -> None:
    """Refuse engine parameters that a client may not set, whichever route they came by.

    Args:
        params: a request's `kv_transfer_params`, or None.

    Raises:
        FieldError: our place in it holds anything but `BlendOptions`.

    >>> check_transfer_params({"kvblend": {"enabled": True}, "other": 1})
    """
    if isinstance(params, Mapping) and params.get(KEY) is not None:
        _check(BlendOptions, f"kv_transfer_params.{KEY}", params[KEY])


def _check(model: type[Model], field: str, value: Any) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The fields are flat: what else stands in the place names the branch of a union.
        param = ".".join([field, *map(str, first["loc"][:1])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise FieldError(f"{param}: unknown key; known keys are {known}", param) from None
        got = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
        raise FieldError(f"{param}: got {got}; {first['msg'][:1].lower()}{first['msg'][1:]}", param) from None
