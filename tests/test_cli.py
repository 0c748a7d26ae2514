"""The command line: verbs, help, flags, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cri_dockerd_py import __version__
from cri_dockerd_py.settings import Settings

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRI_DOCKERD_PY_")}
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, env={**inherited, **environment}, timeout=60
    )


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["--buildinfo"]])
def test_version(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith(f"cri-dockerd-py {__version__} ")


def test_help_names_every_verb_and_every_flag() -> None:
    assert all(verb in run("--help").stdout for verb in ("serve", "config", "demo", "version"))
    help_text = run("serve", "--help").stdout
    assert all(f"--{field.name.replace('_', '-')} " in help_text for field in fields(Settings))


def test_config_show_prints_what_is_in_effect() -> None:
    done = run(
        "config", "show", "--json", "--backend", "docker", "--ipv6-dual-stack", CRI_DOCKERD_PY_ROOT_DIR="/elsewhere"
    )
    shown = json.loads(done.stdout)
    assert (shown["backend"], shown["root_dir"], shown["ipv6_dual_stack"]) == ("docker", "/elsewhere", True)
    assert "warning: flag --ipv6-dual-stack has no effect" in done.stderr


def test_config_show_as_toml_says_where_values_come_from() -> None:
    assert 'backend = "docker"  # flag --backend' in run("config", "show", "--backend=docker").stdout


def test_config_check_tells_what_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('backend = "docker"\n')
    done = run("config", "check", CRI_DOCKERD_PY_CONFIG=str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "the settings can be used\n", "")
    file.write_text('backend = "dockre"\n')
    done = run("config", "check", CRI_DOCKERD_PY_CONFIG=str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"backend = 'dockre' ({file})" in done.stderr


@pytest.mark.parametrize("arguments", [["serve", "--bogus"], ["--bogus"], ["serve", "positional"], [], ["frob"]])
def test_wrong_command_lines_are_refused(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "error" in done.stderr


@pytest.mark.parametrize("arguments", [["serve", "--cni-timeout=x"], ["--cni-timeout=x"]])
def test_wrong_settings_end_serve_with_one_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("cri-dockerd-py: cni_timeout = 'x' (flag --cni-timeout): expected a")
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_failure_to_explain() -> None:
    done = subprocess.run(f"{PROGRAM} config show | true", shell=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["serve --help", "--help", "config show"])
def test_whoever_reads_no_further_is_no_failure_to_explain(command: str) -> None:
    """The pipe has no reader before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run([PROGRAM, *command.split()], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", ["--help", "config show", "version"])
def test_a_full_disk_is_said_in_a_line(command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "cri-dockerd-py: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(closed: str) -> None:
    assert subprocess.run(f"{PROGRAM} version {closed}", shell=True, timeout=60).returncode == 0


def test_a_terminal_may_lack_letters() -> None:
    done = run("config", "show", "--help", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pod", os.fsdecode(b"\xff/x")), "'\\udcff/x' is no text in UTF-8"),
        (("--max-unavailable", str(2**31)), f"--max-unavailable: {2**31 - 1} is the most that can be asked for"),
    ],
)
def test_what_the_service_cannot_be_told_is_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    done = run("migrate", "plan", "--to", "docker", *arguments)
    assert (done.returncode, done.stderr) == (2, f"cri-dockerd-py: {said}\n")


def test_the_command_line_alone_imports_nothing_heavy() -> None:
    code = "import sys, cri_dockerd_py.__main__; print([m for m in ('grpc', 'pydantic', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
