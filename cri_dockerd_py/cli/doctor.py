"""`doctor`: what of this node would keep pods from running well; `debug dump`: a bundle for those who help."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cri_dockerd_py.cli import exits
from cri_dockerd_py.errors import CriError, FailedPrecondition

if TYPE_CHECKING:
    from cri_dockerd_py.cli.admin_client import Admin
    from cri_dockerd_py.doctor import Finding
    from cri_dockerd_py.settings import Settings

_MARKS = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}
_ANSWER_WITHIN_S = 5.0
#: Says where the service is, not what is to be examined.
_ADDRESS = {"admin_endpoint"}
_COLOURS = {"ok": "32", "warning": "33", "failure": "31"}


def add_verbs(verbs: Any, chosen: str) -> None:
    """Add the verbs; the chosen one gets its flags."""
    doctor = verbs.add_parser(
        "doctor",
        help="examine this node: kernel, cgroups, engines, CNI, sockets, disk, clock, leftovers",
        description="Says what would keep pods from running well, why it matters, and the command that mends it. "
        f"Exits with 0 when nothing is wrong, with {exits.INCOMPLETE} when there are warnings alone, and with "
        f"{exits.FAILURE} when pods cannot run.",
    )
    doctor.set_defaults(run=_doctor)
    debug = verbs.add_parser("debug", help="collect what helps to find a fault")
    dump = debug.add_subparsers(required=True, metavar="ACTION").add_parser(
        "dump",
        help="write a support bundle without secrets: settings, findings, status, records, the service's log",
        description="Writes a gzipped tar of text files. It has no environments, annotations, labels or logs of pods, "
        "and no registry or CNI configuration, and what looks like a password, a token or a proxy's login is replaced; "
        "look at it before you send it.",
    )
    dump.set_defaults(run=_dump)
    if chosen in ("doctor", "debug"):
        from cri_dockerd_py.cli.setting_flags import add_setting_flags

        doctor.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
        dump.add_argument(
            "file", nargs="?", default="cri-dockerd-py-dump.tar.gz", help="where to (default: %(default)s)"
        )
        add_setting_flags({"doctor": doctor, "debug": dump}[chosen])


def _doctor(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.doctor import examine

    settings, findings = _examined(arguments)
    findings += examine(settings)
    if arguments.output == "json":
        print(json.dumps([finding.plain() for finding in findings]))
    else:
        print(_text(findings, colour=sys.stdout.isatty()))
    levels = {finding.level.value for finding in findings}
    return exits.FAILURE if "failure" in levels else exits.INCOMPLETE if "warning" in levels else 0


def _dump(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.cli.admin_verbs import status_json
    from cri_dockerd_py.doctor.bundle import write_bundle

    path = Path(arguments.file)
    try:
        names = write_bundle(path, _examined(arguments)[0], lambda: status_json(arguments))
    except FileExistsError:
        raise FailedPrecondition(f"{path} exists already: name another file") from None
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}") from error
    print(f"wrote {path} with {len(names)} files; it is readable by you alone")
    return 0


def _examined(arguments: argparse.Namespace) -> tuple[Settings, list[Finding]]:
    """Return the settings to examine the node with: a running service's, unless some are given for the purpose."""
    from cri_dockerd_py.cli.setting_flags import given_settings, load
    from cri_dockerd_py.doctor.finding import ok

    own = load(arguments).settings
    if given_settings(arguments).keys() - _ADDRESS:
        return own, []
    running = _of_service(own.admin_socket)
    if running is None or running == own:
        return own, []
    other = [each.name for each in fields(own) if getattr(own, each.name) != getattr(running, each.name)]
    return running, [ok("settings", f"those of the service that runs; other than configured: {', '.join(other)}")]


def _of_service(socket: Path) -> Settings | None:
    """Return the settings that a service was started with; None where none answers."""
    from cri_dockerd_py.cli.admin_client import run_at
    from cri_dockerd_py.cli.admin_verbs import ask_status
    from cri_dockerd_py.settings.load import read_settings

    async def ask(admin: Admin) -> str | None:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            status = await ask_status(admin)
        return status.settings if status.HasField("settings") else None

    try:
        document = run_at(socket, ask)
        return None if document is None else read_settings(document, "what the service says of its settings")
    except (CriError, TimeoutError):
        return None


def _text(findings: Sequence[Finding], *, colour: bool) -> str:
    lines = []
    width = max(len(finding.area) for finding in findings)
    indent = " " * (width + 8)
    for finding in findings:
        level = finding.level.value
        mark = f"\x1b[{_COLOURS[level]}m{_MARKS[level]}\x1b[0m" if colour else _MARKS[level]
        lines.append(f"{mark}  {finding.area.ljust(width)}  {finding.what}")
        if finding.why:
            lines.append(f"{indent}why: {finding.why}")
        if finding.fix:
            lines.append(f"{indent}fix: {finding.fix}")
    counts = [sum(finding.level.value == level for finding in findings) for level in ("failure", "warning", "ok")]
    lines.append(f"\n{counts[0]} failures, {counts[1]} warnings, {counts[2]} in order")
    return "\n".join(lines)
