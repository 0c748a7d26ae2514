"""Read the three sources, let the stronger win, and say where a wrong value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cri_dockerd_py.settings import model, values
from cri_dockerd_py.settings.loaded import LoadedSettings, SettingsError
from cri_dockerd_py.settings.model import ENV_PREFIX, WITHOUT_EFFECT, Settings

DEFAULT_CONFIG_FILE = Path("/etc/cri-dockerd-py/config.toml")
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"


class _Base(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the given values only: `load_settings` merges the sources, to know where each value is from."""
        return (init_settings,)


def _validator() -> type[BaseSettings]:
    """Return the model that reads and checks what the dataclass declares."""
    hints = get_type_hints(Settings, {**vars(model), **vars(values)}, include_extras=True)
    declared: dict[str, Any] = {field.name: (hints[field.name], field.default) for field in fields(Settings)}
    return create_model("Settings", __base__=_Base, **declared)


_Validator = _validator()


def load_settings(flags: Mapping[str, Any], config_file: Path | None = None) -> LoadedSettings:
    """Return the settings of `config_file` < the environment < `flags` (setting name → text)."""
    path, explicit = _config_path(config_file)
    from_file = _read_file(path, explicit)
    from_environment = EnvSettingsSource(_Validator)()
    origins = {
        **dict.fromkeys(from_file, str(path)),
        **{name: f"environment variable {ENV_PREFIX}{name.upper()}" for name in from_environment},
        **{name: f"flag --{name.replace('_', '-')}" for name in flags},
    }
    settings = _checked({**from_file, **from_environment, **flags}, origins)
    return LoadedSettings(settings, origins, (*_without_effect(origins), *_unknown_variables()))


def read_settings(document: str, origin: str) -> Settings:
    """Return the settings of a TOML document alone; `origin` is where it is from, for errors."""
    try:
        given = tomllib.loads(document)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{origin} is not valid TOML: {error}") from error
    return _checked(given, dict.fromkeys(given, origin))


def _checked(given: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        return Settings(**dict(_Validator(**given)))
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from error
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _config_path(config_file: Path | None) -> tuple[Path, bool]:
    if config_file is not None:
        return config_file, True
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE]), True
    return DEFAULT_CONFIG_FILE, False


def _read_file(path: Path, explicit: bool) -> dict[str, Any]:
    try:
        if explicit and not path.exists():
            raise SettingsError(f"the config file {path} does not exist; create it or leave out --config")
        # These would be passed over without a word, as /dev/null is.
        if path.is_dir() or path.is_fifo():
            raise SettingsError(f"the config file {path} is a directory or a pipe; name a plain file")
        document = TomlConfigSettingsSource(_Validator, path)()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the config file {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the config file {path} is not valid TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in document.items()}


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            guess = get_close_matches(name, [field.name for field in fields(Settings)], 1)
            hint = f"; did you mean {guess[0]}?" if guess else "; `config show --defaults` lists all"
            lines.append(f"{name} ({origins[name]}): there is no such setting{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            place = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{place} = {problem['input']!r} ({origins.get(name, 'default')}): {message}")
    return "\n".join(lines)


def _without_effect(origins: Mapping[str, str]) -> list[str]:
    return [f"{origins[name]} has no effect: {reason}" for name, reason in WITHOUT_EFFECT.items() if name in origins]


def _unknown_variables() -> list[str]:
    known = {f"{ENV_PREFIX}{field.name.upper()}" for field in fields(Settings)} | {CONFIG_VARIABLE}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    return [f"environment variable {name} is not a setting and is ignored" for name in unknown]
