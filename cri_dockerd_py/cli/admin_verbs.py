"""`status` and `log-level`, carried out."""

from __future__ import annotations

import argparse
import json
import time

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli import admin_client, exits, texts
from cri_dockerd_py.cli.admin_client import Admin
from cri_dockerd_py.cli.migration_text import summary


def show_status(arguments: argparse.Namespace) -> int:
    """Print the service's status; INCOMPLETE when pods cannot be started now."""
    status = admin_client.run(arguments, ask_status)
    print(texts.json_line(status) if arguments.output == "json" else _text(status))
    return 0 if status.network_ready and all(engine.ready for engine in status.engines) else exits.INCOMPLETE


def status_json(arguments: argparse.Namespace) -> str:
    """Return the service's status as a line of JSON."""
    return texts.json_line(admin_client.run(arguments, ask_status))


async def ask_status(admin: Admin) -> pb.StatusResponse:
    """Ask the service for its status."""
    return await admin.call(admin.stub.Status, pb.StatusRequest())


def log_level(arguments: argparse.Namespace) -> int:
    """Print the log level, or set it."""

    async def ask(admin: Admin) -> tuple[str, str]:
        if not arguments.level:
            return (await ask_status(admin)).log_level, ""
        request = pb.SetLogLevelRequest(level=arguments.level)
        return arguments.level, (await admin.call(admin.stub.SetLogLevel, request)).previous

    level, previous = admin_client.run(arguments, ask)
    if arguments.output == "json":
        print(json.dumps({"log_level": level, "previous": previous or level}))
    else:
        print(f"{level} (was {previous})" if previous else level)
    return 0


def _text(status: pb.StatusResponse) -> str:
    up = texts.duration(time.time() - status.started_at_ns / 1e9)
    lines = [f"cri-dockerd-py {status.version}, up for {up}, log level {status.log_level}"]
    if not status.network_ready:
        lines.append(f"pods get no network: {status.network_problem}")
    rows: list[tuple[str, ...]] = [("ENGINE", "VERSION", "PODS", "CONTAINERS", "IMAGES", "STATE")]
    rows += [_engine_row(engine, status.default_engine) for engine in status.engines]
    lines += ["", texts.table(rows)]
    if status.HasField("migration"):
        lines += ["", summary(status.migration)]
    return "\n".join(lines)


def _engine_row(engine: pb.Engine, default: str) -> tuple[str, ...]:
    kept = f", {texts.counted(engine.tombstones, 'record')} kept" if engine.tombstones else ""
    takes = ", gets new pods" if engine.name == default else ""
    return (
        engine.name,
        engine.version or "-",
        f"{engine.pods_ready} ready, {engine.pods_not_ready} not{kept}",
        f"{engine.containers_running} running, {engine.containers_exited} ended",
        str(engine.images),
        ("ready" if engine.ready else f"away: {engine.problem}") + takes,
    )
