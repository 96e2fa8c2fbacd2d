"""Read a group of settings from `kvblend.yaml`, the environment and flags; the later of them wins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from blend.errors import ConfigError
from blend.settings.explain import explain
from blend.settings.group import SECTIONS, Group, settings_of
from blend.settings.sources import Environment, Origins, YamlFile

G = TypeVar("G", bound=Group)


@dataclass(frozen=True, slots=True)
class InForce(Generic[G]):
    """Settings, and by key where each comes from: "default", a file and line, a variable, or a flag."""

    settings: G
    origins: Mapping[str, str]


def load(group: type[G], flags: Mapping[str, Any] | None = None) -> InForce[G]:
    """The settings of a group that are in force.

    Args:
        flags: by key; None stands for a flag that was not given.

    Raises:
        ConfigError: a key is unknown, a value makes no sense, or the file cannot be read.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    sections: dict[str, Any] = dict.fromkeys(SECTIONS, (Any, None))
    sections[group.section] = (group, Field(default_factory=group))
    root: type[_Root] = create_model("Settings", __base__=_Root, **sections)
    flags_of = {key: one.flag for key, one in settings_of(group).items()}
    origins: Origins = {
        **YamlFile(root).origins(),
        **Environment(root).origins(group),
        **{(group.section, key): flags_of.get(key, "flags") for key in given},
    }
    try:
        settings: G = getattr(root(**{group.section: given}), group.section)
    except ValidationError as error:
        raise ConfigError(explain(error.errors()[0], group, origins)) from None
    return InForce(settings, {key: origins.get((group.section, key), "default") for key in flags_of})


class _Root(BaseSettings):
    """All of `kvblend.yaml`; `load` gives one section its group, and leaves the others unchecked."""

    model_config = SettingsConfigDict(case_sensitive=True, env_prefix="KVBLEND_", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, the strongest source first."""
        return init_settings, Environment(settings_cls), YamlFile(settings_cls)
