"""Settings of the store: where chunk KV is kept, and how much of it.

A remote's URL may hold a password: give it in a file or in the environment, since other users of a machine
see the flags of a command.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import PlainSerializer

from blend.errors import ConfigError
from blend.settings.defaults import default_cache
from blend.settings.group import Group, setting
from blend.settings.values import (
    Count,
    FileOrFolder,
    Size,
    SizeOrAuto,
    SizeOrUnlimited,
    converted_by,
)
from blend.store.remote.url import check_url, hide

REMOTE_VARIABLE = "KVBLEND_STORE_REMOTE"
REMOTE_DEADLINE_MS = 1000


def _codec(name: Any) -> str:
    from blend.store.codecs import codec  # brings torch: --help must not

    return codec(str(name)).name


def _url(given: Any) -> str:
    check_url(given if isinstance(given, str) else "")
    return str(given)


Codec = Annotated[str, converted_by(_codec, ConfigError)]
Remote = Annotated[
    str | None, converted_by(_url, ConfigError), PlainSerializer(lambda url: url and hide(url))
]
"""A URL; what is printed, logged or dumped of it holds no secret."""


class StoreConfig(Group):
    """Which tiers the store has, and how much each may hold."""

    section: ClassVar[str] = "store"

    path: FileOrFolder = setting(
        lambda: default_cache() / "store",
        "folder of chunk KV and collections",
        variable="KVBLEND_STORE",
        flag="--store",
        metavar="PATH",
        default_text="store in the cache folder",
    )
    disk_bytes: SizeOrUnlimited = setting(
        None, "largest size of the chunk files of each model, and of each namespace of it, or none"
    )
    device_bytes: SizeOrAuto = setting(
        "auto",
        "largest size of chunks on each worker's device, in front of its memory; 0 for none; auto for none "
        "on a CPU and half of what the engine leaves free on a GPU",
    )
    memory_bytes: Size = setting(
        2 << 30, "largest size of verified chunks in each worker's memory; 0 for none"
    )
    namespace_memory_bytes: Size = setting(
        256 << 20, "largest size of the chunks of each namespace in each worker's memory"
    )
    codec: Codec = setting(
        "uniform",
        "codec that packs the chunks that are written, such as uniform or raw; chunks of all codecs are read",
        metavar="NAME",
    )
    remote: Remote = setting(
        None,
        "URL of a server that machines share: redis, rediss, redis+cluster or s3; or none",
        metavar="URL",
        repr=False,
    )
    remote_bytes: SizeOrUnlimited = setting(
        None, "largest size of each model's chunks on the remote, or none"
    )
    remote_deadline_ms: Count = setting(
        REMOTE_DEADLINE_MS,
        "how long fetching one chunk from the remote may take before the chunk is computed instead",
    )


def store_path(flag: Path | str | None = None) -> Path:
    """Folder of chunk KV and collections: the flag's, else the one that the settings name.

    Raises:
        ConfigError: as `load`.
    """
    from blend.settings.load import load  # reads files and flags, which an engine's processes never do

    return load(StoreConfig, {"path": flag}).settings.path
