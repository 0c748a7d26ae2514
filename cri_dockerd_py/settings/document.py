"""Settings as TOML text: the effective ones, and the commented default file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from cri_dockerd_py.settings.loaded import LoadedSettings
from cri_dockerd_py.settings.model import WITHOUT_EFFECT, Settings
from cri_dockerd_py.settings.runtimes import ContainerdRuntime

_HEADER = """\
# Settings of cri-dockerd-py: /etc/cri-dockerd-py/config.toml. Every line shows the default.
# A setting can also be given as a flag (--root-dir=…) or, weaker, in the environment (CRI_DOCKERD_PY_ROOT_DIR=…).
# Durations are numbers of seconds, or texts like "1m30s".
"""


def default_document() -> str:
    """Return the default config file, every setting explained and commented out."""
    parts = [_HEADER]
    for field in fields(Settings):
        if field.name in WITHOUT_EFFECT:
            continue
        comment = textwrap.fill(field.metadata["description"], 110, initial_indent="# ", subsequent_indent="# ")
        parts.append(f"{comment}\n# {field.name} = {toml_value(field.default)}\n")
    return "\n".join(parts)


def effective_document(loaded: LoadedSettings) -> str:
    """Return the effective settings, each with where it comes from."""
    lines = [
        f"{field.name} = {toml_value(getattr(loaded.settings, field.name))}  # "
        f"{loaded.origins.get(field.name, 'default')}"
        for field in fields(Settings)
    ]
    return "\n".join(lines) + "\n"


def changed_document(settings: Settings) -> str:
    """Return the settings that are not as they are by default, for `read_settings`."""
    default = Settings()
    changed = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    return "".join(
        f"{name} = {toml_value(value)}\n" for name, value in changed.items() if value != getattr(default, name)
    )


def toml_value(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else str(int(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple) and value and isinstance(value[0], ContainerdRuntime):
        return toml_value({runtime.name: runtime.table() for runtime in value})
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str | Path):
        # Of JSON's escapes TOML has all but that of the slash, which Python does not write.
        return json.dumps(str(value), ensure_ascii=False)
    raise TypeError(f"no TOML form for {value!r}")
