"""From `kvblend serve`'s command line to what vLLM's server and engine are started with."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from api.server.vllm_flags import check_flags
from api.server.vllm_names import (
    AsyncEngineArgs,
    create_parser_for_docs,
    get_non_default_args,
    validate_parsed_serve_args,
)
from blend.errors import RequestError
from blend.store.config import StoreConfig
from blend.vllm.engine.setup import EngineSetup, prepare_engine

OURS = ("kv_transfer_config", "worker_cls")
"""Engine arguments that kvblend sets itself."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A server that can be started.

    Attributes:
        model: what the user named.
        said: engine flags that the user set, by name.
        args: vLLM's own namespace of all flags, filled in.
    """

    model: str
    said: dict[str, Any]
    setup: EngineSetup
    args: Namespace


def parse_flags(flags: Sequence[str]) -> Namespace:
    """vLLM's own flags of `vllm serve`.

    Raises:
        RequestError: a flag asks for what one process with one engine cannot do.
        ConfigError: a flag is unknown.
    """
    parser = create_parser_for_docs()
    parser.prog = "kvblend serve"
    parser.usage = "kvblend serve [--collection NAME] [--store PATH] [any flag of `vllm serve`]"  # it has 300
    check_flags(flags, parser._option_string_actions)  # argparse would not say which one was meant
    args: Namespace = parser.parse_args(list(flags))
    validate_parsed_serve_args(args)
    if (args.api_server_count or 1) > 1 or args.headless or args.grpc:
        raise RequestError(
            "got --api-server-count, --headless or --grpc; kvblend serves from one process: leave them out"
        )
    return args


def prepare_launch(model: str, store: StoreConfig, args: Namespace, **blending: Any) -> Launch:
    """Resolve the model and complete the flags with what blending needs; the user's own flags win.

    Args:
        model: name, local folder, GGUF file or hub id.
        blending: `recompute_ratio` and `sharing` of the connector's settings.

    Raises:
        ModelError: the model cannot be found or read.
        RequestError: a flag sets what kvblend sets itself.
    """
    engine = {field.name for field in fields(AsyncEngineArgs)} - {"model"}
    said = {name: value for name, value in get_non_default_args(args).items() if name in engine}
    if taken := [name for name in OURS if name in said]:
        raise RequestError(f"got --{taken[0].replace('_', '-')}, which kvblend sets itself: leave it out")
    setup = prepare_engine(model, store, **blending, **said)
    vars(args).update(setup.arguments)
    args.enable_prompt_tokens_details = True  # cached tokens are counted in every answer
    if args.tokenizer_mode == "auto":
        args.tokenizer_mode = _tokenizer_mode(args.model)
    return Launch(model, said, setup, args)


def _tokenizer_mode(model: str) -> str:
    from blend.vllm.plugin import MODE, register, takes_our_mode

    register()
    return MODE if takes_our_mode(model) else "auto"
