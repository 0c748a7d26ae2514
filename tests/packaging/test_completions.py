"""The completions that packaging/manual writes, in the shells that are there."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from cri_dockerd_py.settings import Settings

REPOSITORY = Path(__file__).parents[2]
SETTINGS = [f"--{field.name.replace('_', '-')}" for field in fields(Settings)]
ENGINES = ["containerd", "docker"]
ADMIN = ["--help", "--output", "--config", "--admin-endpoint", "--state-dir"]
PLAN = ["--to", "--max-unavailable", "--pod", "--exclude", "--last", "--pods-json"]
RUN = [*ADMIN, *PLAN, "--dry-run", "--settle", "--timeout", "--detach"]
ANSWER_WITHIN_S = 20.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program's manual pages and completions are."""
    directory = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, REPOSITORY / "packaging" / "manual", directory], check=True)
    return directory


@pytest.fixture(scope="module")
def bash_script(written: Path) -> Path:
    return written / "bash-completion" / "completions" / "cri-dockerd-py"


def offered(script: Path, line: str) -> list[str]:
    """Return what bash offers at the end of a line, which it takes apart at spaces and equals signs."""
    words = [word for word in re.split(r" |(=)", f"cri-dockerd-py {line}") if word is not None]
    words = [word for word in words[:-1] if word] + words[-1:]
    if words[-1] == "" and words[-2] == "=":
        words.pop()
    quoted = " ".join(map(shlex.quote, words))
    ask = f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}; _cri_dockerd_py; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    command = ["bash", "--norc", "-uc", f"source {shlex.quote(str(script))}; {ask}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mi", ["migrate"]),
        ("migrate ", "plan images run status pause resume abort rollback agent finish".split()),
        ("migrate r", ["run", "resume", "rollback"]),
        ("migrate run --", RUN),
        ("migrate run ", RUN),
        ("migrate run --to ", ENGINES),
        ("migrate run --to d", ["docker"]),
        ("migrate run --to=", ENGINES),
        ("migrate run --to=c", ["containerd"]),
        ("migrate run --to containerd --", RUN),
        ("migrate run --to=containerd --de", ["--detach"]),
        ("migrate run --to=containerd --to=c", ["containerd"]),
        ("migrate run --max-unavailable ", []),
        ("migrate run --max-unavailable 3 --dr", ["--dry-run"]),
        ("migrate run --pods-json ", []),
        ("migrate run --detach --to ", ENGINES),
        ("migrate agent --to ", ENGINES),
        ("doctor --output json --output ", ["text", "json"]),
        ("doctor --output json --", ["--help", "--output", "--config", *SETTINGS]),
        ("debug ", ["dump"]),
        ("debug dump ", []),
        ("debug dump /tmp/x --", ["--help", "--config", *SETTINGS]),
        ("debug dump /tmp/x --log-", ["--log-driver-name", "--log-level", "--log-format"]),
        ("log-level ", ["error", "warning", "info", "debug"]),
        ("log-level w", ["warning"]),
        ("log-level debug --out", ["--output"]),
        ("log-level --output json ", ["error", "warning", "info", "debug"]),
        ("config ", ["show", "check"]),
        ("config show --def", ["--defaults"]),
        ("serve --cni-gc ", ["true", "false"]),
        ("serve --cni-gc --back", ["--backend"]),
        ("serve --config /etc/migrate --log-format ", ["logfmt", "json"]),
        ("--back", ["--backend"]),
        ("--ver", ["--version"]),
        ("--backend ", ["docker", "containerd", "both", "auto"]),
        ("--backend docker --log-l", ["--log-level"]),
        ("--backend docker mi", []),
        ("status plan --wat", []),
        ("nonsense ", ["--help", "--version", "--buildinfo", "--config", *SETTINGS]),
        ("migrate nonsense r", []),
    ],
)
def test_bash_offers_what_may_come_next(bash_script: Path, line: str, expected: list[str]) -> None:
    assert offered(bash_script, line) == expected


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("migrate run --to=con\t", ["migrate", "run", "--to=containerd"]),
        ("log-level w\t", ["log-level", "warning"]),
        ("--back\tdoc\t", ["--backend", "docker"]),
        ("config show --config {}/conf\t", ["config", "show", "--config", "{}/config.toml"]),
        ("debug dump {}/conf\t", ["debug", "dump", "{}/config.toml"]),
        ("migrate run --settle {}/conf\t", ["migrate", "run", "--settle", "{}/conf"]),
        ("version {}/conf\t", ["version", "{}/conf"]),
    ],
)
def test_bash_completes_what_is_typed(bash_script: Path, tmp_path: Path, typed: str, arguments: list[str]) -> None:
    (tmp_path / "config.toml").touch()
    script = tmp_path / "rc"
    script.write_text(
        f"source {shlex.quote(str(bash_script))}\n"
        "cri-dockerd-py() { printf 'given <'; printf '[%s]' \"$@\"; echo '>'; }\n"
        "bind 'set enable-bracketed-paste off' 'set bell-style none'\nPS1='ready$ '\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "--noprofile", "--rcfile", str(script), "-i"])
    try:
        read_until(terminal, "ready$ ")
        os.write(terminal, f"cri-dockerd-py {typed.replace('{}', str(tmp_path))}\n".encode())
        shown = read_until(terminal, ">\r\n")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    expected = "".join(f"[{word}]" for word in arguments).replace("{}", str(tmp_path))
    assert f"given <{expected}>" in shown


def read_until(terminal: int, end: str) -> str:
    """Return what a terminal shows up to a text."""
    shown, deadline = "", time.monotonic() + ANSWER_WITHIN_S
    os.set_blocking(terminal, False)
    while end not in shown:
        assert time.monotonic() < deadline, shown
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except BlockingIOError:
            time.sleep(0.01)
    return shown


@pytest.mark.parametrize(
    ("shell", "place"),
    [("zsh", "zsh/vendor-completions/_cri-dockerd-py"), ("fish", "fish/vendor_completions.d/cri-dockerd-py.fish")],
)
def test_other_shells_can_read_theirs(written: Path, shell: str, place: str) -> None:
    assert (written / place).is_file()
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", written / place], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
