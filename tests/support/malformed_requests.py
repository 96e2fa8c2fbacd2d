"""Malformed requests: a table of bodies, and the routes that must refuse each one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"


@dataclass(frozen=True)
class Attack:
    """One malformed request.

    Attributes:
        content_type: None sends none.
    """

    name: str
    path: str
    body: bytes
    content_type: str | None = JSON
    headers: dict[str, str] = field(default_factory=dict)


ROUTES = (
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/chat/completions/render",
    "/v1/completions",
    "/v1/completions/render",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
    "/inference/v1/generate",
    "/generative_scoring",
    "/invocations",
)

UNREADABLE = {
    "nothing": b"",
    "half": b'{"model": "m", "messages": [',
    "more than one": b"{} {}",
    "a list": b"[]",
    "a list of lists": b"[[[]]]",
    "null": b"null",
    "a number": b"7",
    "a string": b'"messages"',
    "true": b"true",
    "an empty object": b"{}",
    "nested lists": b"[" * 20_000 + b"]" * 20_000,
    "nested objects": b'{"messages":' * 5_000 + b"1" + b"}" * 5_000,
    "not a number": b'{"temperature": NaN}',
    "endless": b'{"temperature": 1e999}',
    "many digits": b'{"max_tokens": ' + b"9" * 5_000 + b"}",
    "half a pair": b'{"prompt": "\\ud800"}',
    "bytes": b'{"prompt": "\xff\xfe"}',
    "another encoding": '{"prompt": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "null bytes": b"\x00" * 100,
    "packed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}

BASE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
}

WRONG: dict[str, tuple[tuple[str, Any], ...]] = {
    "/v1/chat/completions": (
        ("messages", "a"),
        ("messages", []),
        ("messages", [1]),
        ("messages", [{"role": 7}]),
        (
            "messages",
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
                }
            ],
        ),
        ("messages", [{"role": "user", "content": [{"type": "nonesuch"}]}]),
        ("rag", 7),
        ("rag", {}),
        ("rag", {"collection": 7}),
        ("rag", {"collection": "../../../etc/passwd"}),
        ("rag", {"collection": "\x00"}),
        ("rag", {"collection": "docs", "top_k": -1}),
        ("rag", {"collection": "docs", "top_k": 10**30}),
        ("rag", {"collection": "docs", "filter": {"type": "and", "filters": [[]]}}),
        ("rag", {"collection": "docs", "chunk_ids": ["../x"]}),
        ("tools", "a"),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_schema"}),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonesuch"}}},
        ),
        ("chat_template_kwargs", 7),
        ("structured_outputs", {"regex": "("}),
        ("structured_outputs", {"grammar": "root ::= ("}),
    ),
    "/v1/completions": (
        ("prompt", {}),
        ("prompt", []),
        ("prompt", [-1]),
        ("prompt", [10**9]),
        ("prompt", [[]]),
        ("prompt", None),
        ("rag", {"collection": "docs"}),
        ("suffix", "a"),
        ("prompt_logprobs", 10**6),
    ),
}

WRONG_ANYWHERE: tuple[tuple[str, Any], ...] = (
    ("model", 7),
    ("model", "nonesuch"),
    ("max_tokens", -1),
    ("max_tokens", "many"),
    ("temperature", -5),
    ("temperature", "hot"),
    ("top_p", 2),
    ("top_k", -7),
    ("n", 0),
    ("n", 10**9),
    ("stop", [""] * 20_000),
    ("logit_bias", {"a": 1}),
    ("logit_bias", {"999999999": 1}),
    ("seed", 10**40),
    ("presence_penalty", 99),
    ("cache_salt", "a\x00b"),
    ("cache_salt", ""),
    ("blend", {"recompute_ratio": 2}),
    ("blend", {"selector": "../../x"}),
    ("blend", []),
    ("blend", {"unknown": 1}),
    ("kv_transfer_params", {"kvblend": {"gate_key": "x"}}),
    ("kv_transfer_params", 7),
    ("stream_options", {"include_usage": True}),
    ("min_tokens", 10**9),
    ("truncate_prompt_tokens", -9),
    ("stop_token_ids", ["a"]),
)


def attacks(model: str, max_body_bytes: int) -> Iterator[Attack]:
    """Every body of the table at every route that it is for."""
    for path in ROUTES:
        for name, body in UNREADABLE.items():
            yield Attack(name, path, body)
        yield Attack("no JSON", path, b"a=b", "text/plain")
        yield Attack("a form", path, b"--x--", "multipart/form-data; boundary=x")
        yield Attack("too large", path, b" " * (max_body_bytes + 1))
    for path, base in BASE.items():
        for field_name, value in (*WRONG_ANYWHERE, *WRONG[path]):
            body = json.dumps({"model": model, **base, field_name: value}).encode()
            yield Attack(f"{field_name}={value!r}"[:60], path, body)
