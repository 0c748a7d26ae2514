"""Settings as flags of verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cri_dockerd_py.settings import LoadedSettings

PROGRAM = "cri-dockerd-py"
_SETTING = "setting:"


def add_setting_flags(parser: argparse.ArgumentParser, names: Collection[str] = ()) -> None:
    """Give a verb a flag for each setting, or for those named."""
    from cri_dockerd_py.settings.document import toml_value
    from cri_dockerd_py.settings.model import Settings

    parser.add_argument("--config", type=Path, metavar="FILE", help="the config file (/etc/cri-dockerd-py/config.toml)")
    group = parser.add_argument_group(
        "settings", "Each can also be set in the config file, or as CRI_DOCKERD_PY_… in the environment."
    )
    for field in fields(Settings):
        if names and field.name not in names:
            continue
        default = toml_value(field.default).strip('"')
        extra = {"nargs": "?", "const": "true"} if isinstance(field.default, bool) else {}
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=f"{_SETTING}{field.name}",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.metadata['description']} (default: {default or 'empty'})".replace("%", "%%"),
            **extra,  # type: ignore[arg-type]
        )


def given_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings that the command line has, by name."""
    return {name.removeprefix(_SETTING): text for name, text in vars(arguments).items() if name.startswith(_SETTING)}


def load(arguments: argparse.Namespace) -> LoadedSettings:
    """Return the effective settings."""
    from cri_dockerd_py.settings.load import load_settings

    return warned(load_settings(given_settings(arguments), arguments.config))


def warned(loaded: LoadedSettings) -> LoadedSettings:
    """Tell the warnings of settings."""
    for warning in loaded.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    return loaded
