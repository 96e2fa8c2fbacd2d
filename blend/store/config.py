"""What a store is made of: settings from a YAML file, the environment and flags, the later of them winning.

A setting is named alike in all three: `disk_bytes`, `KVBLEND_STORE_DISK_BYTES`, `--disk-bytes`. Only `path`
has names that say more alone: `KVBLEND_STORE` and `--store`. A remote's URL may hold a password: give it in
the file or in the environment, since other users of a machine see the flags of a command.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from blend.config import DEFAULTS, default_cache
from blend.errors import ConfigError
from blend.store.remote_url import check_url
from blend.store.sizes import parse_bytes

FILE = "store.yaml"
VARIABLE = "KVBLEND_STORE"
FILE_VARIABLE = "KVBLEND_STORE_CONFIG"
REMOTE_VARIABLE = "KVBLEND_STORE_REMOTE"
UNLIMITED = "none"
REMOTE_DEADLINE_MS = 1000
REMOTE_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Which tiers there are, and how much each may hold.

    Attributes:
        path: folder of chunk KV and collections.
        disk_bytes: most bytes of chunk files of each model, and of each namespace of it; None for as many as
            the disk holds.
        memory_bytes: most bytes of verified chunks in each worker's memory; 0 for no such tier.
        namespace_memory_bytes: the same for the chunks of each namespace, see `blend.namespace`.
        codec: name of what packs the chunks that are written, see `blend.store.codecs`. Chunks are read
            whatever packed them.
        remote: URL of a server that engines share, see `blend.store.remote_url`; None for no such tier.
        remote_bytes: most bytes of each model's chunks there; None for as many as the server takes.
        remote_deadline_ms: how long a request waits for one chunk from there; then the chunk is computed.
        remote_piece_bytes: of the largest value on the server.
    """

    path: Path
    disk_bytes: int | None = None
    memory_bytes: int = DEFAULTS.memory_bytes
    namespace_memory_bytes: int = DEFAULTS.namespace_memory_bytes
    codec: str = DEFAULTS.codec
    remote: str | None = field(default=None, repr=False)
    remote_bytes: int | None = None
    remote_deadline_ms: int = REMOTE_DEADLINE_MS
    remote_piece_bytes: int = REMOTE_PIECE_BYTES


KEYS = tuple(one.name for one in fields(StoreConfig))


@dataclass(frozen=True, slots=True)
class ConfigInForce:
    """A configuration, and where each of its values comes from.

    Attributes:
        sources: by the setting's name: "default", the file's path, the variable's name, or the flag.
    """

    config: StoreConfig
    sources: Mapping[str, str]


def load_config(flags: Mapping[str, Any], file: Path | None = None) -> ConfigInForce:
    """The configuration in force.

    Args:
        flags: by the setting's name; None stands for a flag that was not given.
        file: a YAML file; unless given, what `$KVBLEND_STORE_CONFIG` names, else `store.yaml` in the cache
            folder where there is one.

    Raises:
        ConfigError: a key is unknown, a value makes no sense, or the file cannot be read.
    """
    _refuse_unknown(flags, KEYS, "the flags")
    values: dict[str, Any] = {"path": default_cache() / "store"}
    sources = dict.fromkeys(KEYS, "default")
    for said in (_from_file(file), _from_environment(), _from_flags(flags)):
        for key, (value, source) in said.items():
            values[key], sources[key] = _PARSERS[key](value, source), source
    return ConfigInForce(StoreConfig(**values), sources)


def store_path(flag: Path | str | None = None) -> Path:
    """Folder of chunk KV and collections: the flag's, else the one that the configuration names.

    Raises:
        ConfigError: as `load_config`.
    """
    return load_config({"path": flag}).config.path


Said = dict[str, tuple[Any, str]]
"""Values and their sources, by key."""


def _from_file(file: Path | None) -> Said:
    said = os.environ.get(FILE_VARIABLE)
    named = file or (Path(said) if said else None)
    path = named or default_cache() / FILE
    if named is None and not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: got {values!r}, expected keys and values; known keys are {', '.join(KEYS)}"
        )
    _refuse_unknown(values, KEYS, str(path))
    if isinstance(values.get("path"), str):
        values["path"] = path.parent / Path(values["path"]).expanduser()
    return {key: (value, str(path)) for key, value in values.items()}


def _from_environment() -> Said:
    variables = {VARIABLE if key == "path" else f"{VARIABLE}_{key.upper()}": key for key in KEYS}
    ours = {name: value for name, value in os.environ.items() if f"{name}_".startswith(f"{VARIABLE}_")}
    _refuse_unknown(ours, (*variables, FILE_VARIABLE), "the environment")
    return {
        variables[name]: (value, f"${name}") for name, value in ours.items() if name in variables and value
    }


def _from_flags(flags: Mapping[str, Any]) -> Said:
    names = {key: "--store" if key == "path" else f"--{key.replace('_', '-')}" for key in KEYS}
    return {key: (value, names[key]) for key, value in flags.items() if value is not None}


def _refuse_unknown(found: Mapping[Any, Any], known: tuple[str, ...], source: str) -> None:
    unknown = sorted(str(key) for key in found if key not in known)
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]} in {source}; known keys are {', '.join(known)}")


def _path(value: Any, source: str) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(f"path: got {value!r} from {source}, expected a folder")
    return Path(value).expanduser()


def _codec(value: Any, source: str) -> str:
    from blend.store.codecs import codec  # brings torch: --help must not

    try:
        return codec(str(value)).name
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _size(value: Any, source: str) -> int:
    try:
        if (
            isinstance(value, bool)
            or not isinstance(value, str | int)
            or (isinstance(value, int) and value < 0)
        ):
            raise ValueError(f"got {value!r}, expected a number of bytes, such as 500MB or 2GiB")
        return parse_bytes(str(value))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def _size_or_none(value: Any, source: str) -> int | None:
    return None if value is None or value == UNLIMITED else _size(value, source)


def _positive_size(value: Any, source: str) -> int:
    size = _size(value, source)
    if size == 0:
        raise ConfigError(f"{source}: got {value!r}, expected a number of bytes from 1 up")
    return size


def _milliseconds(value: Any, source: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) == 0:
        raise ConfigError(
            f"{source}: got {value!r}, expected a number of milliseconds from 1 up, such as 1000"
        )
    return int(value)


def _url(value: Any, source: str) -> str | None:
    if value is None or value == UNLIMITED:
        return None
    try:
        check_url(value if isinstance(value, str) else "")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return str(value)


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "path": _path,
    "disk_bytes": _size_or_none,
    "memory_bytes": _size,
    "namespace_memory_bytes": _size,
    "codec": _codec,
    "remote": _url,
    "remote_bytes": _size_or_none,
    "remote_deadline_ms": _milliseconds,
    "remote_piece_bytes": _positive_size,
}
