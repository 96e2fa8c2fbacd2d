"""The document has what the server adds to vLLM's routes, and every reference in it leads somewhere."""

import json
import re
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from api.server.chat.options import RagOptions
from api.server.surface.openapi import complete_openapi


class ChatCompletionRequest(BaseModel):
    """As vLLM's, by name."""

    model: str


def document(*, has_keys: bool) -> dict[str, Any]:
    app = FastAPI()
    complete_openapi(app, has_keys=has_keys)

    @app.post("/v1/chat/completions")
    async def chat(request: ChatCompletionRequest) -> None: ...

    @app.get("/health")
    async def health() -> None: ...

    app.openapi()
    return app.openapi()  # a second time: it is completed once


def test_our_fields_and_all_errors_are_there():
    found = document(has_keys=True)
    schemas = found["components"]["schemas"]
    assert {"rag", "blend"} <= set(schemas["ChatCompletionRequest"]["properties"])
    assert set(schemas["RagOptions"]["properties"]) == set(RagOptions.model_fields)
    responses = found["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "404", "405", "413", "429", "503"} <= set(responses)
    assert "422" not in responses
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)):
        assert reference in schemas


@pytest.mark.parametrize("has_keys", [False, True])
def test_a_key_is_asked_for_where_it_is(has_keys):
    found = document(has_keys=has_keys)
    assert found.get("security", []) == ([{"key": []}] if has_keys else [])
    assert found["paths"]["/health"]["get"].get("security") == ([] if has_keys else None)
