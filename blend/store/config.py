"""What a store is made of: settings from YAML files, the environment and flags, the later of them winning.

They are named by the rule of `blend.layered`. Only `path` has names that say more alone: `KVBLEND_STORE` and
`--store`. A remote's URL may hold a password: give it in a file or in the environment, since other users of a
machine see the flags of a command.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from blend.errors import ConfigError
from blend.settings.defaults import DEFAULTS, default_cache
from blend.settings.layered import Group, Said, read_yaml, section
from blend.settings.values import (
    UNLIMITED,
    a_count,
    a_path,
    a_positive_size,
    a_size,
    a_size_or_auto,
    a_size_or_none,
)
from blend.store.remote.url import check_url

FILE = "store.yaml"
VARIABLE = "KVBLEND_STORE"
FILE_VARIABLE = "KVBLEND_STORE_CONFIG"
REMOTE_VARIABLE = "KVBLEND_STORE_REMOTE"
REMOTE_DEADLINE_MS = 1000
REMOTE_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Which tiers there are, and how much each may hold.

    Attributes:
        path: folder of chunk KV and collections.
        disk_bytes: most bytes of chunk files of each model, and of each namespace of it; None for as many as
            the disk holds.
        device_bytes: most bytes of chunks on each worker's device, in front of its memory; 0 for no such
            tier, "auto" for none on a CPU and half of what its engine leaves free on a GPU.
        memory_bytes: most bytes of verified chunks in each worker's memory; 0 for no such tier.
        namespace_memory_bytes: the same for the chunks of each namespace, see `blend.namespace`.
        codec: name of what packs the chunks that are written, see `blend.store.codecs`. Chunks are read
            whatever packed them.
        remote: URL of a server that engines share, see `blend.store.remote.url`; None for no such tier.
        remote_bytes: most bytes of each model's chunks there; None for as many as the server takes.
        remote_deadline_ms: how long fetching one chunk from there may take; then it is computed.
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
    device_bytes: int | str = DEFAULTS.device_bytes


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
        file: a YAML file of these settings alone; unless given, what `$KVBLEND_STORE_CONFIG` names, else
            `store.yaml` in the cache folder where there is one. It wins over `kvblend.yaml`.

    Raises:
        ConfigError: a key is unknown, a value makes no sense, or a file cannot be read.
    """
    said_by_flags = GROUP.from_flags(flags)
    found = GROUP.in_force(
        {**_DEFAULTS, "path": default_cache() / "store"},
        (section("store", GROUP), _from_file(file), GROUP.from_environment(), said_by_flags),
    )
    return ConfigInForce(StoreConfig(**found.values), found.sources)


def store_path(flag: Path | str | None = None) -> Path:
    """Folder of chunk KV and collections: the flag's, else the one that the configuration names.

    Raises:
        ConfigError: as `load_config`.
    """
    return load_config({"path": flag}).config.path


def _from_file(file: Path | None) -> Said:
    said = os.environ.get(FILE_VARIABLE)
    named = file or (Path(said) if said else None)
    path = named or default_cache() / FILE
    return {} if named is None and not path.exists() else GROUP.from_file(read_yaml(path), path)


def _codec(value: Any, source: str) -> str:
    from blend.store.codecs import codec  # brings torch: --help must not

    try:
        return codec(str(value)).name
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _url(value: Any, source: str) -> str | None:
    if value is None or value == UNLIMITED:
        return None
    try:
        check_url(value if isinstance(value, str) else "")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return str(value)


GROUP = Group(
    prefix=VARIABLE,
    parsers={
        "path": a_path,
        "disk_bytes": a_size_or_none,
        "memory_bytes": a_size,
        "namespace_memory_bytes": a_size,
        "codec": _codec,
        "remote": _url,
        "remote_bytes": a_size_or_none,
        "remote_deadline_ms": a_count("milliseconds", REMOTE_DEADLINE_MS),
        "remote_piece_bytes": a_positive_size,
        "device_bytes": a_size_or_auto,
    },
    paths=frozenset({"path"}),
    variables={"path": VARIABLE},
    flags={"path": "--store"},
    other_variables=(FILE_VARIABLE,),
)

_DEFAULTS = {one.name: one.default for one in fields(StoreConfig) if one.name != "path"}
