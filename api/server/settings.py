"""What `kvblend serve` is told: settings from `kvblend.yaml`, the environment and flags."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from api.server.ingest.settings import DEFAULTS as INGEST_DEFAULTS
from api.server.ingest.settings import IngestSettings
from api.server.surface.limits import DEFAULT_LIMITS, Limits
from blend.errors import ConfigError, RequestError
from blend.plan.ratio import Ratio, parse_ratio
from blend.plan.sharing import Sharing
from blend.settings.layered import Group, InForce, section
from blend.settings.values import (
    a_choice,
    a_count,
    a_file,
    a_positive_size,
    a_share,
    a_switch,
    a_text,
    names,
    seconds,
)

LOG_FORMATS = ("text", "json")
JSON_LISTS = ("allowed-origins", "allowed-methods", "allowed-headers")
"""Flags of `vllm serve` that take a list as one piece of JSON; all others take its items one by one."""

MAX_JSON_DEPTH = 500
"""Beyond it, reading JSON could exhaust the stack."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """How a server is to serve.

    Attributes:
        model: None takes the collections' model, or the default one.
        reranker: as `retriever.rerank.open_reranker` takes it; None for none.
        embedder: of collections that are made over HTTP, as `kvblend precompute --embedder` takes it.
        recompute_ratio: of requests that ask for none; None: the model's calibrated one, or the default.
        share_blends: what other questions on the same context get of a blend, see `blend.sharing.Sharing`.
        always_blend: no blend is weighed against full prefill.
        key_file: keys that clients must show one of, see `api.server.surface.keys`.
        log_format: of the log, one of `LOG_FORMATS`.
        drain_s: how long requests may take to finish once the server is asked to stop.
        max_body_bytes, max_upload_bytes, max_json_depth: see `api.server.surface.limits`.
        ingest_share: of the engine's time, that taking documents in may take while requests are served.
        max_document_bytes: of one document of a managed collection, and of one uploaded file.
        max_files_bytes: of all uploaded files together.
        max_documents: in one chat request.
        max_ingestions: jobs that have not ended.
        vllm: flags of `vllm serve`, by name; those of the command line win.
    """

    collections: tuple[str, ...] = ()
    model: str | None = None
    reranker: str | None = None
    embedder: str = INGEST_DEFAULTS.embedder
    recompute_ratio: Ratio | None = None
    share_blends: str = Sharing.NO.value
    always_blend: bool = False
    key_file: Path | None = None
    log_format: str = LOG_FORMATS[0]
    drain_s: float = 30.0
    max_body_bytes: int = DEFAULT_LIMITS.body_bytes
    max_upload_bytes: int = DEFAULT_LIMITS.upload_bytes
    max_json_depth: int = DEFAULT_LIMITS.json_depth
    ingest_share: float = INGEST_DEFAULTS.share
    max_document_bytes: int = INGEST_DEFAULTS.max_document_bytes
    max_files_bytes: int = INGEST_DEFAULTS.max_files_bytes
    max_documents: int = INGEST_DEFAULTS.max_chat_documents
    max_ingestions: int = INGEST_DEFAULTS.max_waiting_jobs
    vllm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """What the server takes of one request."""
        return Limits(self.max_body_bytes, self.max_upload_bytes, self.max_json_depth)

    @property
    def ingestion(self) -> IngestSettings:
        """How much the server takes in."""
        return replace(
            INGEST_DEFAULTS,
            embedder=self.embedder,
            share=self.ingest_share,
            max_document_bytes=self.max_document_bytes,
            max_files_bytes=self.max_files_bytes,
            max_chat_documents=self.max_documents,
            max_waiting_jobs=self.max_ingestions,
        )


def load_serve_config(flags: Mapping[str, Any]) -> tuple[ServeConfig, InForce]:
    """The configuration in force, and where each of its values comes from.

    Args:
        flags: by the setting's name; None stands for a flag that was not given.

    Raises:
        ConfigError: a key is unknown, a value makes no sense, or the file cannot be read.
    """
    said = (section("serve", GROUP), GROUP.from_environment(), GROUP.from_flags(flags))
    found = GROUP.in_force(_DEFAULTS, said)
    return ServeConfig(**found.values), found


def command_line(vllm: Mapping[str, Any]) -> list[str]:
    """Flags of `vllm serve` as they would stand on its command line.

    >>> command_line({"port": 8000, "enforce_eager": True, "api-key": ["a", "b"], "seed": None})
    ['--port', '8000', '--enforce-eager', '--api-key', 'a', 'b']
    >>> command_line({"allowed-origins": ["https://a.example"]})
    ['--allowed-origins', '["https://a.example"]']
    """
    line: list[str] = []
    for name, value in vllm.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            line.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list) and flag[2:] not in JSON_LISTS:
            line += [flag, *map(str, value)]
        else:
            line += [flag, json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return line


def check_flags(flags: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a flag that nobody knows, naming the nearest one.

    Args:
        known: flags as they are written, such as "--max-model-len"; their beginnings are known too.

    Raises:
        ConfigError: a flag is unknown.

    >>> check_flags(["--port", "8000", "--hf_overrides.a.b=1"], ["--port", "--hf-overrides"])
    """
    names = sorted(set(known))
    for flag in flags:
        name = re.split(r"[=.]", flag)[0].replace("_", "-")
        if name.startswith("--") and not any(one.startswith(name) for one in names):
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(f"unknown flag {flag}{f', did you mean {near[0]}?' if near else ''}")


def _ratio(value: Any, source: str) -> Ratio | None:
    try:
        return None if value is None else parse_ratio(str(value))
    except (ValueError, RequestError) as error:
        raise ConfigError(f"{source}: {error}") from error


def _flags(value: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{source}: got {value!r}, expected flags of vLLM's server and their values")
    return value


GROUP = Group(
    prefix="KVBLEND_SERVE",
    parsers={
        "collections": names,
        "model": a_text,
        "reranker": a_text,
        "embedder": a_text,
        "recompute_ratio": _ratio,
        "share_blends": a_choice(Sharing),
        "always_blend": a_switch,
        "key_file": a_file,
        "log_format": a_choice(LOG_FORMATS),
        "drain_s": seconds,
        "max_body_bytes": a_positive_size,
        "max_upload_bytes": a_positive_size,
        "max_json_depth": a_count("levels", DEFAULT_LIMITS.json_depth, MAX_JSON_DEPTH),
        "ingest_share": a_share,
        "max_document_bytes": a_positive_size,
        "max_files_bytes": a_positive_size,
        "max_documents": a_count("documents", INGEST_DEFAULTS.max_chat_documents),
        "max_ingestions": a_count("jobs", INGEST_DEFAULTS.max_waiting_jobs),
        "vllm": _flags,
    },
    paths=frozenset({"key_file"}),
    variables={"vllm": ""},
    flags={"collections": "--collection"},
)

_DEFAULTS = {one.name: getattr(ServeConfig(), one.name) for one in fields(ServeConfig)}
