"""Flags of vLLM's own server: from the settings file to a command line, and the refusal of unknown ones."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blend.errors import ConfigError

JSON_LISTS = ("allowed-origins", "allowed-methods", "allowed-headers")
"""Flags of `vllm serve` that take a list as one piece of JSON; all others take its items one by one."""


def command_line(vllm: Mapping[str, Any]) -> list[str]:
    """Flags of `vllm serve` as they would stand on its command line.

    >>> command_line({"port": 8000, "enforce_eager": True, "api-key": ["a", "b"], "seed": None})
    ['--port', '8000', '--enforce-eager', '--api-key', 'a', 'b']
    >>> command_line({"allowed-origins": ["https://a.example"]})
    ['--allowed-origins', '["https://a.example"]']
    """
    line: list[str] = []
    for name, value in vllm.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            line.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list) and flag[2:] not in JSON_LISTS:
            line += [flag, *map(str, value)]
        else:
            line += [flag, json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return line


def check_flags(flags: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a flag that neither vLLM nor kvblend has, naming the nearest one.

    Args:
        known: flags as they are written, such as "--max-model-len"; their beginnings are known too.

    Raises:
        ConfigError: a flag is unknown.

    >>> check_flags(["--port", "8000", "--hf_overrides.a.b=1"], ["--port", "--hf-overrides"])
    """
    names = sorted(set(known))
    for flag in flags:
        name = re.split(r"[=.]", flag)[0].replace("_", "-")
        if name.startswith("--") and not any(one.startswith(name) for one in names):
            near = difflib.get_close_matches(name, names, n=1)
            meant = f", did you mean {near[0]}?" if near else "; `vllm serve --help` lists vLLM's flags"
            raise ConfigError(f"unknown flag {flag}{meant}")
