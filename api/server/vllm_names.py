"""Names of vLLM's server that move between its versions: the newer place is tried before the older one."""

from vllm.entrypoints.launchers.api_server import entry
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import AsyncEngineArgs  # type: ignore[attr-defined]
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config

try:  # vLLM 0.33
    from vllm.entrypoints.common.cli_args import (  # type: ignore[import-not-found]
        create_parser_for_docs,
        propagate_flash_late_interaction,
        validate_parsed_serve_args,
    )
except ImportError:  # vLLM 0.32
    from vllm.entrypoints.launchers.cli_args import (
        create_parser_for_docs,
        propagate_flash_late_interaction,
        validate_parsed_serve_args,
    )
try:  # vLLM 0.33
    from vllm.entrypoints.common.startup import (  # type: ignore[import-not-found]
        cli_env_setup,
        get_non_default_args,
    )
except ImportError:  # vLLM 0.32
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup, get_non_default_args

__all__ = [
    "AsyncEngineArgs",
    "build_app",
    "cli_env_setup",
    "create_parser_for_docs",
    "entry",
    "get_non_default_args",
    "get_uvicorn_log_config",
    "init_app_state",
    "propagate_flash_late_interaction",
    "serve_http",
    "setup_server",
    "validate_parsed_serve_args",
]
