"""The arguments of `kvblend serve`; importing them loads neither torch nor vLLM."""

import argparse
from collections.abc import Sequence
from typing import Any

from api.server.settings import LogFormat, ServeConfig
from api.server.vllm_flags import command_line
from blend.settings.group import add_flags, flags_given
from blend.settings.load import load
from blend.settings.sources import add_config_flag, use_config_flag
from blend.store.config import StoreConfig


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command, with its own flags; all others are vLLM's."""
    parser = subparsers.add_parser(
        "serve",
        help="serve collections over HTTP, with vLLM's own OpenAI server",
        epilog="Any flag of `vllm serve` may follow, such as --host, --port, --max-model-len or --api-key. "
        "`kvblend config` prints the settings in force.",
        allow_abbrev=False,
    )
    add_config_flag(parser)
    add_flags(parser, ServeConfig)
    add_flags(parser, StoreConfig)


def run(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """Serve until a signal comes; returns the exit status.

    Args:
        flags: those of vLLM's server.

    Raises:
        ConfigError: a setting makes no sense.
    """
    from blend.vllm.engine.setup import prepare_environment

    use_config_flag(args)
    config = load(ServeConfig, flags_given(args, ServeConfig)).settings
    store = load(StoreConfig, flags_given(args, StoreConfig)).settings
    # Ours is a line a phase and a line a request; `--log-level` and `--uvicorn-log-level` show theirs.
    vllm: list[Any] = ["--uvicorn-log-level", "warning", *command_line(config.vllm), *flags]
    if config.log_format is LogFormat.JSON and not any(flag.startswith("--logging-config") for flag in vllm):
        vllm += ["--logging-config.formatter", "json"]
    prepare_environment()  # before vllm is imported
    from api.server.app import serve

    return serve(config, store, vllm)
