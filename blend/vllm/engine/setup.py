"""The environment and the arguments with which a vLLM engine blends."""

import hashlib
import logging
import os
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blend.errors import NotBlendable, RequestError
from blend.models.blendable import check_blendable
from blend.models.fingerprint import fingerprint, resolve_dtype
from blend.models.resolve import ModelFolder, resolve
from blend.plan.ratio import Ratio, check_ratio
from blend.plan.sharing import Sharing
from blend.settings.defaults import DEFAULT_MODEL
from blend.settings.load import load
from blend.store.config import StoreConfig
from blend.vllm.settings import ATTENTIONS, Settings, redact_remote
from blend.vllm.version import check_vllm_version

CONNECTOR = "KVBlendConnector"
CONNECTOR_MODULE = "blend.vllm.connector"
WORKER = "blend.vllm.worker.worker.BlendWorker"
IN_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Executor on a CPU with one rank: the model runs in the engine's process, so one process fewer imports
vLLM."""
IN_PROCESSES = "blend.vllm.engine.start.NappingExecutor"
"""Executor on a CPU with several ranks: one process per rank."""
FORCING = "blend.vllm.engine.forcing:ForcedAnswers"
"""For `logits_processors`, to force answers; no engine loads it by default."""

DEPRECATED_IN_TORCH = "`torch.distributed.reduce_op` is deprecated"
"""vLLM looks at every attribute of every module; torch warns about this one."""

BLENDING = ("recompute_ratio", "sharing", "kept_bytes", "always_blends", "attention")
"""Keys of `Settings` that a caller may override."""
TIERS = tuple(key for key in StoreConfig.model_fields if key != "path")


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """An engine that can be started.

    Attributes:
        model_name: what the server calls the model.
        reference: finds the model again, from any folder; a collection is bound to it.
        settings: of the connector.
        not_blendable: why the model is served without blending, or None.
        arguments: keyword arguments of vLLM's `AsyncEngineArgs`.
    """

    model_name: str
    reference: str
    settings: Settings
    not_blendable: str | None
    arguments: dict[str, Any]


def prepare_environment() -> None:
    """Set vLLM's environment for this process and its children; call it before vllm is imported.

    Variables that the user has set are not changed.
    """
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # else each engine tells which NUMA node its memory is bound to
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # vLLM logs before it reads that
    _ignore_deprecations()


def _ignore_deprecations() -> None:
    """Keep what vLLM's import provokes in torch off the terminal, here and in the engine's processes."""
    warnings.filterwarnings("ignore", message=DEPRECATED_IN_TORCH, category=FutureWarning)
    # Called once for each engine of a process: the variable must not grow.
    filters = [
        *os.environ.get("PYTHONWARNINGS", "").split(","),
        f"ignore:{DEPRECATED_IN_TORCH}:FutureWarning",
    ]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, dict.fromkeys(filters)))


def prepare_engine(
    model: str = DEFAULT_MODEL, store: Path | str | StoreConfig | None = None, **overrides: Any
) -> EngineSetup:
    """Resolve a model and the arguments of an engine that blends it.

    Args:
        model: name, local folder, GGUF file or hub id.
        store: its folder, or all its settings; None: as the settings in force say.
        overrides: what `BLENDING` names of `Settings`; the other keys of `StoreConfig`, of which those that
            are None are as the settings in force say; and any argument of vLLM's `AsyncEngineArgs`. They win.

    Raises:
        ModelError: the model or a supported vLLM is not there.
        RequestError: the ratio, the sharing or the attention is none.
        ConfigError: a setting of the store makes no sense.
    """
    check_vllm_version()
    blending = {name: overrides.pop(name) for name in BLENDING if name in overrides}
    _check_settings(**blending)
    tiers = {key: value for key in TIERS if (value := overrides.pop(key, None)) is not None}
    if isinstance(store, StoreConfig):
        store = StoreConfig(**{**dict(store), **tiers})
    else:
        store = load(StoreConfig, {"path": store, **tiers}).settings
    folder = resolve(model)
    _ask_no_hub_for(folder)
    dtype = overrides.get("dtype") or resolve_dtype(folder.path)
    num_ranks = int(overrides.get("tensor_parallel_size") or 1)
    _bind_threads(num_ranks)
    settings = Settings(
        store=_without_secrets(store),
        fingerprint=_fingerprint(folder.path, dtype, overrides),
        engine=_engine_key(overrides),
        gate_key=secrets.token_hex(16),
        **blending,
    )
    arguments = _serving(folder, dtype)
    reason = _not_blendable(folder.path, arguments | overrides)
    if reason is None:
        arguments |= _blending(settings, num_ranks)
    return EngineSetup(folder.name, _reference(model), settings, reason, arguments | overrides)


def _ask_no_hub_for(folder: ModelFolder) -> None:
    """A local model needs nothing from the hub."""
    if Path(folder.path).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _without_secrets(store: StoreConfig) -> StoreConfig:
    """The store's settings as the engine is told them; a remote's secrets stay in the environment."""
    if store.remote is not None:
        from blend.store.remote.client import make_client

        make_client(store.remote, "", 1.0)  # a missing package is an error here, not in a worker
    return store.model_copy(update={"remote": redact_remote(store.remote)})


def _serving(folder: ModelFolder, dtype: str) -> dict[str, Any]:
    """The arguments of an engine that serves a model, whether it blends or not."""
    return {
        "model": str(folder.path),
        "served_model_name": [folder.name],
        "dtype": dtype,
        # On a CPU, compiling costs a minute of start-up and gains nothing measurable.
        "enforce_eager": _on_cpu(),
        "use_tqdm_on_load": False,
        "enable_prefix_caching": True,
    }


def _check_settings(
    recompute_ratio: Ratio | None = None,
    sharing: str = Sharing.NO,
    attention: str = ATTENTIONS[0],
    kept_bytes: int = 0,
    always_blends: bool = False,
) -> None:
    if recompute_ratio is not None:
        check_ratio(recompute_ratio)
    if sharing not in tuple(Sharing):
        raise RequestError(f"got sharing {sharing!r}, expected one of: {', '.join(Sharing)}")
    if attention not in ATTENTIONS:
        raise RequestError(f"got attention {attention!r}, expected one of: {', '.join(ATTENTIONS)}")
    if kept_bytes < 0:
        raise RequestError(f"got {kept_bytes} bytes for kept blends, expected 0 or more")


def _reference(model: str) -> str:
    """A name or path that finds the model again from any folder."""
    local = Path(model).expanduser()
    return str(local.resolve()) if local.exists() else model


def _blending(settings: Settings, num_ranks: int) -> dict[str, Any]:
    """The arguments that make an engine blend."""
    transfer = {
        "kv_connector": CONNECTOR,
        "kv_connector_module_path": CONNECTOR_MODULE,
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": settings.to_extra_config(),
    }
    arguments = {"worker_cls": WORKER, "kv_transfer_config": transfer}
    if _on_cpu():
        arguments["distributed_executor_backend"] = IN_PROCESS if num_ranks == 1 else IN_PROCESSES
    return arguments


def _not_blendable(path: Path | str, arguments: dict[str, Any]) -> str | None:
    from transformers import AutoConfig

    try:
        check_blendable(AutoConfig.from_pretrained(path))
    except NotBlendable as error:
        return str(error)
    for argument, what in _NOT_WITH_BLENDING.items():
        value = arguments.get(argument)
        if value is True or (value and value != 1):
            return f"{what} is not supported together with blending; leave out {argument}"
    return None


_NOT_WITH_BLENDING = {
    "pipeline_parallel_size": "pipeline parallelism (tensor parallelism is)",
    "decode_context_parallel_size": "context parallelism",
    "prefill_context_parallel_size": "context parallelism",
    "data_parallel_size": "data parallelism",
    "enable_lora": "LoRA (its adapters follow the running batch, not the blend)",
    "hf_overrides": "a configuration that differs from the model's own",
    "speculative_config": "speculative decoding",
}
"""Arguments of the engine that exclude blending, and what each of them asks for."""


def _fingerprint(path: Path, dtype: str, overrides: dict[str, Any]) -> str:
    """The model's fingerprint, combined with the quantisation that the engine adds, if any."""
    digest = fingerprint(path, dtype)
    if overrides.get("quantization") is None:
        return digest
    return hashlib.sha256(f"{digest} {overrides['quantization']}".encode()).hexdigest()


def _engine_key(overrides: dict[str, Any]) -> str:
    names = ("tensor_parallel_size", "kv_cache_dtype", "block_size", "enforce_eager", "attention_config")
    chosen = {name: overrides[name] for name in names if overrides.get(name) is not None}
    return f"{'cpu' if _on_cpu() else 'accelerator'} {sorted(chosen.items())}"


def _bind_threads(num_ranks: int) -> None:
    """Give every rank its share of the cores, unless the user has set a binding.

    All arms of a comparison need one binding: by default vLLM gives an engine without a connector fewer
        cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    size = max(1, len(cores) // num_ranks)
    shares = [cores[rank * size : (rank + 1) * size] or cores[-1:] for rank in range(num_ranks)]
    binding = "|".join(",".join(map(str, share)) for share in shares)
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", binding)


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())
