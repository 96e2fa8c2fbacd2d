"""Sources of settings: `kvblend.yaml`, with the line of each key, and the environment."""

import argparse
import os
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, YamlConfigSettingsSource

from blend.errors import ConfigError
from blend.settings.defaults import default_cache
from blend.settings.group import SECTIONS, Group, settings_of

FILE = "kvblend.yaml"
FILE_VARIABLE = "KVBLEND_CONFIG"

Origins = dict[tuple[str, ...], str]
"""Where settings come from, by section and key: a file and line, a variable, or a flag."""


def config_file() -> Path | None:
    """The file of settings that is in force: `$KVBLEND_CONFIG`, else `kvblend.yaml` in the cache folder."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    path = default_cache() / FILE
    return path if path.exists() else None


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which names the file of settings."""
    where = f"(default: ${FILE_VARIABLE}, else {FILE} in the cache folder)"
    parser.add_argument("--config", metavar="FILE", help=f"YAML file of settings {where}")


def use_config_flag(args: argparse.Namespace) -> None:
    """Put the file of `--config` in force, for this process and those that it starts."""
    if args.config is not None:
        os.environ[FILE_VARIABLE] = args.config


class YamlFile(YamlConfigSettingsSource):
    """The file of settings. A relative path in it starts at the file's own folder.

    Raises:
        ConfigError: the file cannot be read, or holds no mapping of sections.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        self.path = config_file()
        self._sections = [] if self.path is None else _compose(self.path)
        super().__init__(settings_cls, yaml_file=self.path)
        for section, values in self.yaml_data.items():
            if values is not None and not isinstance(values, dict):
                got = f"section {section}: got one {type(values).__name__}, expected keys and values"
                raise ConfigError(f"{self.origins()[(str(section),)]}: {got}")

    def __call__(self) -> dict[str, Any]:
        """What the file holds, by section."""
        found = {str(section): values for section, values in super().__call__().items() if values is not None}
        for section, field in self.settings_cls.model_fields.items():
            if (group := _group_of(field)) and section in found:
                found[section] = self._with_whole_paths(found[section], group)
        return found

    def origins(self) -> Origins:
        """File and line of each section, and of each key in it."""
        found: Origins = {}
        for section, values in self._sections:
            found[(section.value,)] = self._line(section)
            keys = (key for key, _ in values.value) if isinstance(values, yaml.MappingNode) else ()
            found.update({(section.value, key.value): self._line(key) for key in keys})
        return found

    def _line(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def _with_whole_paths(self, values: dict[Any, Any], group: type[Group]) -> dict[str, Any]:
        assert self.path is not None, "values come from a file"
        kinds = {key: field.annotation for key, field in group.model_fields.items()}
        found = {str(key): value for key, value in values.items()}
        for key, value in found.items():
            if Path in (kinds.get(key), *get_args(kinds.get(key))) and isinstance(value, str) and value:
                found[key] = self.path.parent / Path(value).expanduser()
        return found


class Environment(EnvSettingsSource):
    """The variables of a group: `KVBLEND_`, the section, and the key."""

    def prepare_field_value(self, field_name: str, field: FieldInfo, *_: Any) -> dict[str, str | None] | None:
        """Values by key; a variable of no setting stands under its own name, and is refused later."""
        return self._found(group) if (group := _group_of(field)) else None

    def origins(self, group: type[Group]) -> Origins:
        """The variable of each key of a group."""
        names = {key: one.variable for key, one in settings_of(group).items()}
        return {(group.section, key): f"${names.get(key, key)}" for key in self._found(group)}

    def _found(self, group: type[Group]) -> dict[str, str | None]:
        keys = {one.variable: key for key, one in settings_of(group).items()}
        prefix = f"{self.env_prefix}{group.section.upper()}_"
        ours = {name: value for name, value in self.env_vars.items() if f"{name}_".startswith(prefix)}
        return {keys.get(name, name): value for name, value in ours.items()}


def _group_of(field: FieldInfo) -> type[Group] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Group) else None


def _compose(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """The nodes of a file's sections, names and values; they know their lines."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        yaml.safe_load(text)  # what has nodes may still have no values
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the settings file {path}, correct or rename it: {reason}") from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: got no sections, expected a mapping with: {', '.join(SECTIONS)}")
    return list(root.value)
