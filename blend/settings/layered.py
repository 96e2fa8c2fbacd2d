"""Settings that come from files, from the environment and from flags, the later of them winning.

A setting is named alike in all three: `disk_bytes`, `KVBLEND_STORE_DISK_BYTES`, `--disk-bytes`. One file,
`kvblend.yaml`, has a section for each group of settings.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from blend.errors import ConfigError
from blend.settings.defaults import default_cache

FILE = "kvblend.yaml"
FILE_VARIABLE = "KVBLEND_CONFIG"
SECTIONS = ("serve", "store")

Parser = Callable[[Any, str], Any]
"""Makes a value of what was said, given the source to name when it makes no sense (a ConfigError)."""

Said = dict[str, tuple[Any, str]]
"""Values and their sources, by key."""


@dataclass(frozen=True, slots=True)
class InForce:
    """Values by key, and where each comes from: "default", a file's path, a variable's name, or a flag."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that belong together.

    Attributes:
        prefix: of its environment variables.
        parsers: of each setting, by key.
        paths: keys whose values in a file are relative to the file's folder.
        variables, flags: names of single settings that are not as the rule has them; a variable "" for none.
        other_variables: that begin with the prefix and are no settings.
    """

    prefix: str
    parsers: Mapping[str, Parser]
    paths: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    other_variables: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all settings, in their order."""
        return tuple(self.parsers)

    def from_file(self, values: Any, path: Path) -> Said:
        """What a file's mapping says.

        Raises:
            ConfigError: it is no mapping, or a key is unknown.
        """
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path}: got {values!r}, expected keys and values; known keys are {', '.join(self.keys)}"
            )
        refuse_unknown(values, self.keys, str(path))
        return {key: (self._beside(key, value, path), str(path)) for key, value in values.items()}

    def from_environment(self) -> Said:
        """What the environment says; an empty variable says nothing.

        Raises:
            ConfigError: a variable with the group's prefix is none of its settings.
        """
        variables = {
            name: key
            for key in self.keys
            if (name := self.variables.get(key, f"{self.prefix}_{key.upper()}"))
        }
        ours = {name: value for name, value in os.environ.items() if f"{name}_".startswith(f"{self.prefix}_")}
        refuse_unknown(ours, (*variables, *self.other_variables), "the environment")
        return {
            variables[name]: (value, f"${name}")
            for name, value in ours.items()
            if name in variables and value
        }

    def from_flags(self, flags: Mapping[str, Any]) -> Said:
        """What flags say; None stands for one that was not given.

        Raises:
            ConfigError: a flag is none of its settings.
        """
        refuse_unknown(flags, self.keys, "the flags")
        names = {key: self.flags.get(key, f"--{key.replace('_', '-')}") for key in self.keys}
        return {key: (value, names[key]) for key, value in flags.items() if value is not None}

    def in_force(self, defaults: Mapping[str, Any], said: Iterable[Said]) -> InForce:
        """The values that win.

        Args:
            said: by each source, the weakest first.

        Raises:
            ConfigError: a value makes no sense, also where a later one would have won.
        """
        values, sources = dict(defaults), dict.fromkeys(self.keys, "default")
        for one in said:
            for key, (value, source) in one.items():
                values[key], sources[key] = self.parsers[key](value, source), source
        return InForce(values, sources)

    def _beside(self, key: str, value: Any, path: Path) -> Any:
        is_path = key in self.paths and isinstance(value, str) and value
        return path.parent / Path(value).expanduser() if is_path else value


def read_yaml(path: Path) -> Any:
    """A YAML file's value; of an empty one, an empty mapping.

    Raises:
        ConfigError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from error


def section(name: str, group: Group) -> Said:
    """What `kvblend.yaml` says of a group: the file of `$KVBLEND_CONFIG`, or else of the cache folder.

    Raises:
        ConfigError: the file cannot be read, or a section or a key of it is unknown.
    """
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named) if named else default_cache() / FILE
    if not named and not path.exists():
        return {}
    sections = read_yaml(path)
    if not isinstance(sections, dict):
        raise ConfigError(f"{path}: got {sections!r}, expected the sections {', '.join(SECTIONS)}")
    refuse_unknown(sections, SECTIONS, str(path))
    return group.from_file(sections.get(name) or {}, path)


def refuse_unknown(found: Iterable[Any], known: tuple[str, ...], source: str) -> None:
    """Raise a ConfigError for the first key that is not known, with the one that was meant."""
    unknown = sorted(str(key) for key in found if key not in known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f", did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown key {unknown[0]} in {source}{meant}; known keys are {', '.join(known)}")
