"""Read the three sources, let the stronger win, and say where a wrong value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.settings.model import ENV_PREFIX, WITHOUT_EFFECT, Settings

DEFAULT_CONFIG_FILE = Path("/etc/cri-dockerd-py/config.toml")
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"


class SettingsError(InvalidArgument):
    """The settings cannot be used; the message has a line for each that is wrong."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings, where those that differ from the defaults come from, and what to warn of."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def load_settings(flags: Mapping[str, Any], config_file: Path | None = None) -> LoadedSettings:
    """Return the settings of `config_file` < the environment < `flags` (setting name → text)."""
    path, explicit = _config_path(config_file)
    from_file = _read_file(path, explicit)
    from_environment = EnvSettingsSource(Settings)()
    origins = {
        **dict.fromkeys(from_file, str(path)),
        **{name: f"environment variable {ENV_PREFIX}{name.upper()}" for name in from_environment},
        **{name: f"flag --{name.replace('_', '-')}" for name in flags},
    }
    try:
        settings = Settings(**{**from_file, **from_environment, **flags})
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from error
    return LoadedSettings(settings, origins, (*_without_effect(origins), *_unknown_variables()))


def _config_path(config_file: Path | None) -> tuple[Path, bool]:
    if config_file is not None:
        return config_file, True
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE]), True
    return DEFAULT_CONFIG_FILE, False


def _read_file(path: Path, explicit: bool) -> dict[str, Any]:
    if explicit and not path.exists():
        raise SettingsError(f"the config file {path} does not exist; create it or leave out --config")
    try:
        document = TomlConfigSettingsSource(Settings, path)()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the config file {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the config file {path} is not valid TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in document.items()}


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            guess = get_close_matches(name, Settings.model_fields, 1)
            hint = f"; did you mean {guess[0]}?" if guess else "; `config show --defaults` lists all"
            lines.append(f"{name} ({origins[name]}): there is no such setting{hint}")
        elif name:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name} = {problem['input']!r} ({origins.get(name, 'default')}): {message}")
        else:
            lines.append(problem["msg"].removeprefix("Value error, "))
    return "\n".join(lines)


def _without_effect(origins: Mapping[str, str]) -> list[str]:
    return [f"{origins[name]} has no effect: {reason}" for name, reason in WITHOUT_EFFECT.items() if name in origins]


def _unknown_variables() -> list[str]:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    return [f"environment variable {name} is not a setting and is ignored" for name in unknown]
