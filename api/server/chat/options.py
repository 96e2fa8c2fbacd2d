"""The extra body fields `rag` and `blend`: validated, and handed to the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.server.errors import FieldError, wrong_field
from blend.select import check_rule
from blend.settings.defaults import DEFAULTS as BLEND_DEFAULTS
from blend.vllm.request_params import KEY, BlendParams
from retriever.errors import QueryError
from retriever.filters import parse_filter
from retriever.search import DEFAULT_METHOD, Method, Order, Search

Ratio = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] | Literal["auto"]
Model = TypeVar("Model", bound=BaseModel)
_BY_VALUE = Field(strict=False)  # in strict mode an enumeration takes no strings


class BlendOptions(BaseModel):
    """Options of a blend; the engine's default applies to missing ones.

    Attributes:
        recompute_ratio: share of context tokens that are recomputed, in [0, 1], or "auto".
        selector: rule that picks the tokens.
        enabled: False requests a full prefill of the same prompt.
        detail: True adds the state of each context token to the answer's `blend`, as `tokens`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    recompute_ratio: Ratio | None = None
    selector: str | None = None
    enabled: bool | None = None
    detail: bool | None = None


class SearchOptions(BaseModel):
    """Options of a search, as in `retriever.search.Search`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: Annotated[Method, _BY_VALUE] = DEFAULT_METHOD
    top_k: int | None = None
    max_tokens: int | None = None
    min_score: float | None = None
    filter: dict[str, Any] | None = None
    neighbours: int = 0
    deduplicate: bool = True
    rerank: bool | None = None
    order: Annotated[Order, _BY_VALUE] = Order.AS_RANKED

    def search(self) -> Search:
        """The search for the retriever.

        Raises:
            QueryError: a value is out of range, or not a valid filter.
        """
        return Search(
            method=self.method,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            min_score=self.min_score,
            filter=None if self.filter is None else parse_filter(self.filter),
            neighbours=self.neighbours,
            deduplicate=self.deduplicate,
            rerank=self.rerank,
            order=self.order,
        )


class SearchBody(SearchOptions):
    """The body of a search in one collection.

    Attributes:
        query: any text that is not blank.
    """

    query: str


class RagOptions(SearchOptions):
    """The field `rag` of a chat request, which asks for retrieval.

    Attributes:
        collection: one of the server's collections.
        order: as in `SearchOptions`, but by default the best chunk stands last.
        chunk_ids: ids of chunks to use, in their order, instead of a search.
        recompute_ratio, selector: as in `BlendOptions`, over which they take precedence.
    """

    collection: str
    order: Annotated[Order, _BY_VALUE] = Order.BEST_LAST
    chunk_ids: list[str] | None = None
    recompute_ratio: Ratio | None = None
    selector: str | None = None

    def search(self) -> Search:
        """The search for the retriever.

        Raises:
            QueryError: a value is out of range, not a valid filter, or `chunk_ids` come with search options.
        """
        if self.chunk_ids is not None and (given := self.model_fields_set & _OF_A_SEARCH):
            raise QueryError(f"got it together with {', '.join(sorted(given))}; send one", "chunk_ids")
        return super().search()


_OF_A_SEARCH = {field.name for field in fields(Search)}


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The validated fields `rag` and `blend` of one request."""

    rag: RagOptions | None
    blend: BlendOptions

    def merged(self) -> BlendOptions:
        """The blend's options; those of `rag` take precedence over those of `blend`.

        >>> rag = RagOptions(collection="c", recompute_ratio=0.5)
        >>> RequestOptions(rag, BlendOptions(recompute_ratio=0.1, selector="first")).merged()
        BlendOptions(recompute_ratio=0.5, selector='first', enabled=None, detail=None)
        """
        if self.rag is None:
            return self.blend
        given = self.rag.model_dump(include={"recompute_ratio", "selector"}, exclude_none=True)
        return self.blend.model_copy(update=given)


def read_options(body: Mapping[str, Any] | None) -> RequestOptions:
    """Validate the extra fields of a request's body.

    Args:
        body: fields outside OpenAI's schema; fields other than `rag` and `blend` are ignored.

    Raises:
        FieldError: an unknown key, a wrong type, or a value out of range.

    >>> read_options({"rag": {"collection": "docs"}, "other": 1}).rag.method.value
    'fused'
    """
    body = body or {}
    rag = None if body.get("rag") is None else _check(RagOptions, "rag", body["rag"])
    if rag is not None:
        try:
            rag.search()
        except QueryError as error:
            raise rag_error(error) from None
    return RequestOptions(
        rag=rag,
        blend=_check(BlendOptions, "blend", {} if body.get("blend") is None else body["blend"]),
    )


def take_options(request: Any) -> RequestOptions:
    """Read the extra fields of a request of vLLM's, and hand its blend options to the engine.

    Args:
        request: a chat, completion or responses request; its `kv_transfer_params` are completed.

    Raises:
        FieldError, RequestError: a field is wrong.
    """
    options = read_options(request.model_extra)
    blend = options.merged()
    # An unknown name, or one that cannot stand with the ratio, is the client's error.
    check_rule(blend.recompute_ratio or 0.0, blend.selector or BLEND_DEFAULTS.selector)
    if blend.model_fields_set:
        request.kv_transfer_params = {**(request.kv_transfer_params or {}), **transfer_params(blend)}
    return options


def rag_error(error: QueryError) -> FieldError | QueryError:
    """An error of the retriever, as an error of the request's field that caused it."""
    return error if error.option is None else FieldError(f"rag.{error}", f"rag.{error.option}")


def transfer_params(options: BlendOptions) -> dict[str, Any]:
    """The engine's parameters of a request, in the form in which vLLM passes them to a connector.

    >>> transfer_params(BlendOptions(recompute_ratio=0.5))
    {'kvblend': {'enabled': True, 'recompute_ratio': 0.5}}
    """
    enabled = options.enabled is not False
    detail = options.detail is True
    return BlendParams(enabled, options.recompute_ratio, options.selector, detail=detail).to_transfer()


def check_transfer_params(params: Any) -> None:
    """Refuse reserved engine parameters, on any route.

    Args:
        params: a request's `kv_transfer_params`, or None.

    Raises:
        FieldError: the entry of kvblend is not a valid `BlendOptions`.

    >>> check_transfer_params({"kvblend": {"enabled": True}, "other": 1})
    """
    if isinstance(params, Mapping) and params.get(KEY) is not None:
        _check(BlendOptions, f"kv_transfer_params.{KEY}", params[KEY])


def _check(model: type[Model], field: str, value: Any) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The fields are flat: later parts of the location name the branch of a union.
        param = ".".join([field, *map(str, first["loc"][:1])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise FieldError(f"{param}: unknown key; known keys are {known}", param) from None
        raise wrong_field(error, param) from None
