"""Nodes that are made of files, and what mends them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Level, Patient

#: Programs that change more than files below the node's root; on a patient each writes its command line to `calls`.
_PROGRAMS = ("systemctl", "kubectl", "update-grub", "grubby", "modprobe", "sysctl", "apt-get", "dnf", "crictl")
_OTHERS = (
    "sed",
    "grep",
    "journalctl",
    "python3",
    "mkdir",
    "echo",
    "printf",
    "find",
    "du",
    "chown",
    "ln",
    "sudo",
    "mv",
    "zypper",
)
_PLACES = re.compile(r"(?<![\w/.])/(?=(?:etc|var|boot)/)")


def put(patient: Patient, path: str, text: str) -> None:
    file = patient.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def bad(findings: Iterable[Finding]) -> list[str]:
    """Return what is wrong; each has a reason, and a mend that can be pasted into a shell."""
    found = [finding for finding in findings if finding.level is not Level.OK]
    for finding in found:
        assert finding.why
        assert is_command(finding.fix), finding.fix
    return [finding.what for finding in found]


def is_command(line: str) -> bool:
    if line.startswith("# "):
        return True
    if "\n" in line or subprocess.run(["bash", "-n", "-c", line], check=False).returncode:
        return False
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    first = [word for before, word in zip(["&&", *words], words, strict=False) if before in ("&&", "||", ";", "|")]
    return set(first) <= {*_PROGRAMS, *_OTHERS, "sort", "tail"}


def mend(patient: Patient, line: str) -> list[str]:
    """Run a mend on the patient's files; return the command lines of the programs that it called."""
    programs = patient.root / "programs"
    programs.mkdir(exist_ok=True)
    calls = patient.root / "calls"
    calls.write_text("")
    for name in _PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n')
        (programs / name).chmod(0o755)
    script = f"set -e; {_PLACES.sub(f'{patient.root}/', line)}"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=60)
    return [call.rstrip() for call in calls.read_text().replace(str(patient.root), "").splitlines()]
