"""Completes vLLM's OpenAPI document: kvblend's fields, API keys, and the errors of every route."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from api.server.chat.options import BlendOptions, RagOptions
from api.server.errors import ErrorBody
from api.server.surface.keys import OPEN

_REF = "#/components/schemas/"
_ANYWHERE = {
    HTTPStatus.BAD_REQUEST: "The request is invalid",
    HTTPStatus.UNAUTHORIZED: "No API key, or an unknown one",
    HTTPStatus.NOT_FOUND: "No such model, collection, document, answer or route",
    HTTPStatus.METHOD_NOT_ALLOWED: "The route does not support this method",
    HTTPStatus.CONFLICT: "The collection exists already, or is not managed by this server",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request exceeds a limit of size or number",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many jobs are waiting; retry after `Retry-After`",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server failed at this request; its log says why",
    HTTPStatus.NOT_IMPLEMENTED: "The served model or this server does not support this",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server starts or stops, or cannot reach a service that it needs",
}
_NOT_OPENAIS = "422"
"""FastAPI's status for an invalid body; here it is 400, see `api.server.surface.error_shape`."""

_CHATS, _COMPLETIONS = ("BlendChatRequest", "ChatCompletionRequest"), ("CompletionRequest",)


def complete_openapi(app: FastAPI, *, has_keys: bool) -> None:
    """Complete the OpenAPI document of an app.

    Args:
        has_keys: whether requests must carry a key.
    """
    vllms = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(vllms(), has_keys=has_keys)  # `app.openapi_schema` keeps the document
        return vllms()

    app.openapi = described  # type: ignore[method-assign]


def _complete(document: dict[str, Any], *, has_keys: bool) -> None:
    document["info"] |= {
        "title": "kvblend",
        "description": "vLLM's OpenAI server, with retrieval and blending",
    }
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (RagOptions, BlendOptions, ErrorBody):
        schema = model.model_json_schema(ref_template=f"{_REF}{model.__name__}_{{model}}")
        for name, inner in schema.pop("$defs", {}).items():
            schemas[f"{model.__name__}_{name}"] = inner
        schemas[model.__name__] = schema
    for request in _CHATS:
        _add_field(schemas, request, "rag", RagOptions)
    for request in (*_CHATS, *_COMPLETIONS):
        _add_field(schemas, request, "blend", BlendOptions)
    for path, operation in _operations(document):
        responses = operation.setdefault("responses", {})
        responses.pop(_NOT_OPENAIS, None)
        for status, description in _ANYWHERE.items():
            responses[str(status.value)] = _answer(description)
        if has_keys and path in OPEN:
            operation["security"] = []
    if has_keys:
        components.setdefault("securitySchemes", {})["key"] = {"type": "http", "scheme": "bearer"}
        document["security"] = [{"key": []}]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document.get("paths", {}).items():
        for operation in methods.values():
            if isinstance(operation, dict):
                yield path, operation


def _add_field(schemas: dict[str, Any], request: str, field: str, model: type) -> None:
    if request in schemas:
        either = [{"$ref": f"{_REF}{model.__name__}"}, {"type": "null"}]
        schemas[request].setdefault("properties", {})[field] = {"anyOf": either}


def _answer(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"{_REF}{ErrorBody.__name__}"}}},
    }
