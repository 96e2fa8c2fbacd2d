"""One definition a setting: a field of a `Group`, from which its variable, its flag and its help follow.

The setting `disk_bytes` of the group `store` is `disk_bytes` in the section `store` of `kvblend.yaml`,
`KVBLEND_STORE_DISK_BYTES` in the environment and `--disk-bytes` on the command line.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from blend.settings.sizes import write_bytes

SECTIONS = ("serve", "store", "precompute")
"""Of `kvblend.yaml`, one for each group."""

_METAVARS = {"_bytes": "SIZE", "_s": "SECONDS", "_ms": "MS", "_file": "FILE"}
"""What a flag's value is called, by the unit that the setting's name ends in."""


class Group(BaseModel):
    """Settings that belong together; constructing a group reads neither file nor environment.

    Attributes:
        section: name of the group in `kvblend.yaml`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    section: ClassVar[str]


def setting(default: Any, help: str, *, repr: bool = True, **names: str) -> Any:
    """The definition of one setting: a field of a `Group`.

    Args:
        default: the value, or a function without arguments that returns it.
        help: one plain sentence, without a full stop.
        repr: False for a value that may hold a secret.
        names: `variable`, `flag`, `metavar` and `default_text` (the default as help shows it), where they
            differ from the rule; an empty name stands for none.
    """
    value: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return Field(**value, description=help, repr=repr, json_schema_extra={**names})


@dataclass(frozen=True, slots=True)
class Setting:
    """How one setting is written and explained.

    Attributes:
        variable, flag: "" where the setting has none.
        default: as help and docs show it.
        takes: what the flag takes: "value", "switch" (nothing) or "list" (a value; the flag may be repeated).
    """

    key: str
    variable: str
    flag: str
    metavar: str
    default: str
    help: str
    takes: str

    @property
    def attribute(self) -> str:
        """Where argparse puts the flag's value."""
        return self.flag.strip("-").replace("-", "_")


@cache
def settings_of(group: type[Group]) -> dict[str, Setting]:
    """All settings of a group by key, in the order of their definition."""
    return {one.key: one for one in _settings(group)}


def _settings(group: type[Group]) -> Iterator[Setting]:
    for key, field in group.model_fields.items():
        names: Any = field.json_schema_extra
        default = names.get("default_text") or show(key, field.default)
        by_unit = next((name for unit, name in _METAVARS.items() if key.endswith(unit)), "N")
        yield Setting(
            key=key,
            variable=names.get("variable", f"KVBLEND_{group.section}_{key}".upper()),
            flag=names.get("flag", f"--{key.replace('_', '-')}"),
            metavar=names.get("metavar", by_unit),
            default=default,
            help=field.description or "",
            takes={bool: "switch", tuple: "list"}.get(type(field.default), "value"),
        )


def add_flags(parser: argparse.ArgumentParser, group: type[Group], *keys: str) -> None:
    """Add the flags of a group, or of some of its settings; a flag that is not given stays None."""
    for one in settings_of(group).values():
        takes: dict[str, dict[str, Any]] = {
            "value": {"metavar": one.metavar},
            "list": {"metavar": one.metavar, "action": "append"},
            "switch": {"action": "store_true", "default": None},
        }
        if one.flag and (not keys or one.key in keys):
            help_text = f"{one.help} (default: {one.default})".replace("%", "%%")
            parser.add_argument(one.flag, help=help_text, **takes[one.takes])


def flags_given(args: argparse.Namespace, group: type[Group]) -> dict[str, Any]:
    """Values of a group's flags by key; None for a flag that was not given."""
    return {key: getattr(args, one.attribute, None) for key, one in settings_of(group).items() if one.flag}


def show(key: str, value: Any) -> str:
    """A value as people would write it.

    >>> show("max_body_bytes", 32 << 20), show("remote", None), show("always_blend", False)
    ('32MiB', 'none', 'false')
    """
    if value in (None, (), [], {}):
        return "none"
    if key.endswith("_bytes") and isinstance(value, int):
        return write_bytes(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)
