"""The arguments of `kvblend serve`; importing them loads neither torch nor vLLM."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.server.settings import GROUP, LOG_FORMATS, command_line, load_serve_config
from blend.plan.sharing import Sharing
from blend.settings.layered import FILE_VARIABLE


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command, with its own flags; all others are vLLM's."""
    parser = subparsers.add_parser(
        "serve",
        help="serve collections over HTTP, with vLLM's own OpenAI server",
        epilog="Any flag of `vllm serve` may follow, such as --host, --port, --max-model-len or --api-key. "
        "`kvblend config` prints what is in force.",
        allow_abbrev=False,
    )
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the settings of `ServeConfig`; what is not given is None, and the file's or the default."""
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="kvblend.yaml, with all settings of the server and store")
    add("--collection", dest="collections", action="append", metavar="NAME", help="may be repeated")
    add("--model", help="the collections' model unless given")
    add(
        "--reranker",
        metavar="MODEL",
        help="reads the best candidates again: a cross-encoder, or late: and an embedding model",
    )
    add(
        "--embedder",
        metavar="MODEL",
        help="embedding model of collections that are made over HTTP: a folder, a hub id, or URL/v1#MODEL",
    )
    add(
        "--recompute-ratio",
        metavar="R",
        help="in [0, 1], or auto, of requests that name none; the model's calibrated one unless given",
    )
    add(
        "--share-blends",
        choices=tuple(Sharing),
        help="for other questions on the same context: as-is answers them from the same blend, for the cost "
        "of a prefix hit and less closely; topped-up recomputes what else they need (default: no)",
    )
    add(
        "--always-blend",
        action="store_true",
        default=None,
        help="blend also where full prefill is predicted to be sooner",
    )
    add("--key-file", metavar="FILE", help="keys that clients must show one of, read again when it changes")
    add("--log-format", choices=LOG_FORMATS, help="of the log: one line for each request (default: text)")
    add("--drain-s", metavar="S", help="how long requests may take to finish at the end (default: 30)")
    add("--max-body-bytes", metavar="N", help="of a request's body, such as 32MiB (default)")
    add("--max-upload-bytes", metavar="N", help="of an upload, such as 256MiB (default)")
    add("--max-json-depth", metavar="N", help="of arrays and objects inside each other (default: 64)")
    add(
        "--ingest-share",
        metavar="SHARE",
        help="of the engine's time, that taking documents in may take while requests are served "
        "(default: 0.25)",
    )
    add("--max-document-bytes", metavar="N", help="of one document or uploaded file, such as 32MiB (default)")
    add("--max-files-bytes", metavar="N", help="of all uploaded files together, such as 16GiB (default)")
    add("--max-documents", metavar="N", help="in one chat request (default: 128)")
    add("--max-ingestions", metavar="N", help="jobs of ingestion that have not ended (default: 1000)")


def said_by(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the settings; a file that they name is in force from now on."""
    if args.config is not None:
        os.environ[FILE_VARIABLE] = str(args.config)  # the store's settings are read from it too
    return {key: getattr(args, key, None) for key in GROUP.keys}


def run(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """Serve until a signal comes; returns the exit status.

    Args:
        flags: those of vLLM's server.

    Raises:
        ConfigError: a setting makes no sense.
    """
    from blend.vllm.engine.setup import prepare_environment

    config, _ = load_serve_config(said_by(args))
    theirs = [*command_line(config.vllm), *flags]
    if config.log_format == "json" and not any(flag.startswith("--logging-config") for flag in theirs):
        theirs += ["--logging-config.formatter", "json"]
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")  # a server's log is its operator's window
    prepare_environment()  # before vllm is imported
    from api.server.app import serve

    return serve(config, args.store, theirs)
