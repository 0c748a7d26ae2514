"""What can be set: a TOML file, then the environment, then flags; validated once and frozen."""

from __future__ import annotations

from cri_dockerd_py.settings.loaded import LoadedSettings, SettingsError
from cri_dockerd_py.settings.model import Settings

__all__ = ["LoadedSettings", "Settings", "SettingsError"]
