"""The environments that everything is installed into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NEW_VENV = Path(__file__).resolve().parents[2] / "packaging" / "new-venv"


def test_an_environment_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    """What is left where ensurepip is missing or was cut off: an interpreter, and nothing to install with."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run([NEW_VENV, sys.executable, venv], check=True)
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=True)

    kept = venv / "kept"
    kept.touch()
    subprocess.run([NEW_VENV, sys.executable, venv], check=True)
    assert kept.exists(), "one that works is left as it is"
