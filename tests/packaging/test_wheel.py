"""The wheel: what is in it, and that the program runs from it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from cri_dockerd_py import __version__
from cri_dockerd_py.settings.document import effective_document
from cri_dockerd_py.settings.loaded import LoadedSettings
from cri_dockerd_py.settings.model import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "cri_dockerd_py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run([REPOSITORY / "packaging" / "wheel", sys.executable, directory], check=True)
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in an environment of its own, which borrows other packages from this one."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install = ["--python", str(venv / "bin" / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install], check=True)
    (packages,) = venv.glob("lib/python3.*/site-packages")
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return venv / "bin" / "cri-dockerd-py"


def run(*command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CRI_DOCKERD"))}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd="/").stdout


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Modules, generated messages, their types, tables and the pause binaries; documents stay in the repository."""
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        packed = {name for name in names if ".dist-info/" not in name}
        assert packed == expected
        for name in ("pause/pause-amd64", "pause/pause-arm64", "py.typed", "_generated/runtime_v1/api_pb2.py"):
            assert archive.read(f"cri_dockerd_py/{name}") == (PACKAGE / name).read_bytes()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_program_runs_from_the_wheel(program: Path, tmp_path: Path) -> None:
    where = run(program.parent / "python", "-c", "import cri_dockerd_py; print(cri_dockerd_py.__file__)")
    assert Path(where.strip()).is_relative_to(program.parents[1])
    assert run(program, "--version").startswith(f"cri-dockerd-py {__version__} ")
    (tmp_path / "empty.toml").touch()
    shown = run(program, "config", "show", f"--config={tmp_path}/empty.toml")
    assert shown == effective_document(LoadedSettings(Settings(), {}, ()))
