"""Loading in a process of its own gives what loading here does, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cri_dockerd_py.errors import Internal
from cri_dockerd_py.settings import SettingsError
from cri_dockerd_py.settings.apart import SettingsApart
from cri_dockerd_py.settings.load import load_settings


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('cni_bin_dir = ["/a", "/b"]\nnetwork_plugin_mtu = 1500\n')
    return path


def test_the_result_is_the_same(config_file: Path) -> None:
    flags = {"root_dir": "/elsewhere", "log_level": "warn"}
    assert SettingsApart(flags, config_file).result() == load_settings(flags, config_file)


def test_what_is_wrong_is_told_the_same(config_file: Path) -> None:
    flags = {"root_dir": "relative", "backend": "podman"}
    with pytest.raises(SettingsError) as here:
        load_settings(flags, config_file)
    with pytest.raises(SettingsError) as apart:
        SettingsApart(flags, config_file).result()
    assert str(apart.value) == str(here.value)


def test_a_process_that_fails_is_told(config_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("out of order")

    with pytest.raises(Internal, match="ended with 1"):
        SettingsApart(Broken(), config_file).result()
    assert "RuntimeError: out of order" in capfd.readouterr().err


def test_the_service_keeps_nothing_in_memory_that_it_can_do_without() -> None:
    code = """
import sys
import cri_dockerd_py.daemon
from cri_dockerd_py.settings.apart import SettingsApart
SettingsApart({}).result()
avoided = ("pydantic", "pydantic_core", "pydantic_settings", "difflib", "docker", "dotenv", "rich", "yaml")
print([name for name in avoided if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
