"""The outcome of loading the settings: what is in effect, or what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.settings.model import Settings


class SettingsError(InvalidArgument):
    """The settings cannot be used; the message has a line for each that is wrong."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings, where those that differ from the defaults come from, and what to warn of."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
