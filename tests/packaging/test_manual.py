"""What packaging/manual writes from the program."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cri_dockerd_py.settings import Settings

REPOSITORY = Path(__file__).parents[2]


def manual(*arguments: str) -> str:
    command = [sys.executable, REPOSITORY / "packaging" / "manual", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_reference_of_settings_is_current() -> None:
    kept = (REPOSITORY / "cri_dockerd_py" / "settings" / "README.md").read_text()
    assert kept == manual("--reference"), "run: make reference"


def test_the_reference_has_one_row_for_each_setting() -> None:
    rows = [line for line in manual("--reference").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in fields(Settings)]
    assert all(len(row.replace("\\|", "").strip("|").split("|")) == 4 for row in rows)


def test_completions_for_zsh_are_where_the_distribution_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual(str(tmp_path))
    monkeypatch.setenv("ZSH_FOLDER", "site-functions")
    manual(str(tmp_path))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("zsh/*/*"))
    assert found == ["zsh/site-functions/_cri-dockerd-py", "zsh/vendor-completions/_cri-dockerd-py"]
