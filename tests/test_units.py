"""The systemd units agree with the program that they start."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
from pathlib import Path

from cri_dockerd_py.cli import exits
from cri_dockerd_py.daemon import service_manager
from cri_dockerd_py.logs.driver import DEFAULT_NAME, PLUGIN_DIR
from cri_dockerd_py.settings import Settings
from tests.cri_server import PROGRAM

UNITS = Path(__file__).parents[1] / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    """Return a unit; of a key that is there more than once the last value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((UNITS / name).read_text())
    return parser


def values(name: str, key: str) -> list[str]:
    """Return all values of a key in a unit."""
    lines = (UNITS / name).read_text().splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


def test_the_program_takes_the_flags_of_its_unit() -> None:
    program, verb, *flags = unit("cri-dockerd-py.service")["Service"]["ExecStart"].split()
    assert (Path(program).name, verb) == (PROGRAM.name, "serve")
    assert subprocess.run([PROGRAM, "config", "show", *flags], capture_output=True).returncode == 0


def test_a_reload_ends_before_the_signal_where_the_settings_cannot_be_used(tmp_path: Path) -> None:
    check, signal = values("cri-dockerd-py.service", "ExecReload")
    program, *words = check.split()
    _, _, *flags = unit("cri-dockerd-py.service")["Service"]["ExecStart"].split()
    assert (Path(program).name, words) == (PROGRAM.name, ["config", "check", *flags])
    assert signal == "/bin/kill -HUP $MAINPID"
    file = tmp_path / "config.toml"
    environment = {**os.environ, "CRI_DOCKERD_PY_CONFIG": str(file)}
    for text, code, told in (('log_level = "debug"', 0, ""), ('log_level = "loud"', 2, "log_level = 'loud'")):
        file.write_text(text)
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, env=environment)
        assert done.returncode == code
        assert told in done.stderr


def test_sockets_are_where_they_are_looked_for() -> None:
    assert f"unix://{unit('cri-dockerd-py.socket')['Socket']['ListenStream']}" == Settings().container_runtime_endpoint
    logs = unit("cri-dockerd-py-logs.socket")["Socket"]
    assert logs["ListenStream"] == str(PLUGIN_DIR / f"{DEFAULT_NAME}.sock")
    assert logs["FileDescriptorName"] == service_manager.LOG_LISTENER


def test_the_service_gets_both_sockets() -> None:
    sockets = unit("cri-dockerd-py.service")["Service"]["Sockets"].split()
    assert sorted(sockets) == sorted(path.name for path in UNITS.glob("*.socket"))


def test_directories_are_those_of_the_settings() -> None:
    service = unit("cri-dockerd-py.service")["Service"]
    assert f"/run/{service['RuntimeDirectory']}" == str(Settings().state_dir)
    assert f"/var/lib/{service['StateDirectory']}" == str(Settings().root_dir)
    assert service["RuntimeDirectoryMode"] == service["StateDirectoryMode"] == "0700"
    logs = unit("cri-dockerd-py-logs.socket")["Socket"]
    assert (logs["DirectoryMode"], logs["SocketMode"]) == ("0700", "0600")


def test_every_unit_names_its_manual() -> None:
    for path in UNITS.iterdir():
        assert "man:cri-dockerd-py(8)" in unit(path.name)["Unit"]["Documentation"].split()


def test_settings_that_cannot_be_used_are_not_tried_every_second(tmp_path: Path) -> None:
    """What runs after the program's end sleeps after that exit code alone; systemd makes one `$` of two."""
    words = shlex.split(unit("cri-dockerd-py.service")["Service"]["ExecStopPost"].replace("$$", "$"))
    sleep = tmp_path / "sleep"
    sleep.write_text("#!/bin/sh\necho slept $1\n")
    sleep.chmod(0o755)
    for code, printed in ((exits.USAGE, "slept 5\n"), (exits.FAILURE, ""), (0, ""), ("KILL", "")):
        environment = {"EXIT_STATUS": str(code), "PATH": str(tmp_path)}
        assert subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout == printed
