"""The actions of `migrate`, carried out; each is named as on the command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli import admin_client, exits, migration_text, texts
from cri_dockerd_py.cli.admin_client import Admin
from cri_dockerd_py.cli.follow import follower
from cri_dockerd_py.errors import InvalidArgument, Unavailable

_RESTART_WITHIN_S = 90.0
_TRY_AGAIN_S = 0.5
_MOST_AT_ONCE = 2**31 - 1  # that a message of the admin socket can hold
_GOES_ON = "the migration goes on; `cri-dockerd-py migrate status --watch` follows it again"
_NOT_ANSWERED = "the service has not answered yet; `cri-dockerd-py migrate status` shows whether anything has begun"


def plan(arguments: argparse.Namespace) -> int:
    """Print what a migration would do."""
    options = _options(arguments)

    async def ask(admin: Admin) -> pb.Plan:
        return await admin.call(admin.stub.MigratePlan, pb.MigratePlanRequest(options=options))

    found = admin_client.run(arguments, ask)
    print(texts.json_line(found) if arguments.output == "json" else migration_text.plan(found))
    return 0


def images(arguments: argparse.Namespace) -> int:
    """Copy images, and show how far it is."""
    request = pb.MigrateImagesRequest(options=_options(arguments))

    async def copy(admin: Admin) -> pb.ImageProgress:
        shown = follower(arguments.output)
        latest = pb.ImageProgress()
        with shown.open():
            async for latest in admin.stream(admin.stub.MigrateImages, request):
                if arguments.output == "json":
                    print(texts.json_line(latest), flush=True)
                else:
                    shown.show(pb.Migration(target=arguments.to, state="images", images=latest))
        return latest

    done = admin_client.run(arguments, copy)
    if arguments.output != "json":
        print(f"{done.images_done} of {texts.counted(done.images_total, 'image')} on {arguments.to}")
    return 0 if done.images_done == done.images_total else exits.INCOMPLETE


def run(arguments: argparse.Namespace) -> int:
    """Begin a migration, and follow it."""
    if arguments.dry_run:
        return plan(arguments)
    for name in ("settle", "timeout"):
        seconds = getattr(arguments, name)
        if seconds is not None and not seconds > 0:
            raise InvalidArgument(f"--{name}: give more than 0 seconds, or leave it out")
    request = pb.MigrateRunRequest(
        options=_options(arguments),
        settle_seconds=arguments.settle or 0,
        return_within_seconds=arguments.timeout or 0,
    )
    return _begin(arguments, lambda admin: admin.call(admin.stub.MigrateRun, request))


def resume(arguments: argparse.Namespace) -> int:
    """Go on with a migration, and follow it."""
    return _begin(arguments, lambda admin: admin.call(admin.stub.MigrateResume, pb.MigrateResumeRequest()))


def rollback(arguments: argparse.Namespace) -> int:
    """Begin to bring back what was moved, and follow it."""
    return _begin(arguments, lambda admin: admin.call(admin.stub.MigrateRollback, pb.MigrateRollbackRequest()))


def status(arguments: argparse.Namespace) -> int:
    """Show the newest migration, and follow it where asked to."""
    if arguments.watch:
        return _begin(arguments, None)

    async def ask(admin: Admin) -> pb.Migration:
        return await admin.first(admin.stub.MigrateStatus, pb.MigrateStatusRequest())

    return _show(arguments, admin_client.run(arguments, ask))


def pause(arguments: argparse.Namespace) -> int:
    """Begin no more moves."""
    return _once(arguments, lambda admin: admin.call(admin.stub.MigratePause, pb.MigratePauseRequest()))


def abort(arguments: argparse.Namespace) -> int:
    """End a migration where it is."""
    return _once(arguments, lambda admin: admin.call(admin.stub.MigrateAbort, pb.MigrateAbortRequest()))


def finish(arguments: argparse.Namespace) -> int:
    """Let go of the engine that was left."""
    request = pb.MigrateFinishRequest(engine=arguments.engine)

    async def ask(admin: Admin) -> pb.FinishReport:
        return await admin.call(admin.stub.MigrateFinish, request)

    report = admin_client.run(arguments, ask)
    print(texts.json_line(report) if arguments.output == "json" else migration_text.finish_report(report))
    return 0 if report.complete else exits.INCOMPLETE


def agent(arguments: argparse.Namespace) -> int:
    """Bring this node to an engine, and report to Kubernetes."""
    from cri_dockerd_py.cli.fleet import verb

    return verb.run(arguments)


# --- following

_Begin = Callable[[Admin], Awaitable[pb.Migration]]


def _begin(arguments: argparse.Namespace, begin: _Begin | None) -> int:
    """Begin something, unless there is nothing to begin, and follow the migration to its end."""
    left_with = _GOES_ON if begin is None else _NOT_ANSWERED

    async def go(admin: Admin) -> pb.Migration:
        nonlocal left_with
        if begin is not None:
            latest = await begin(admin)
            left_with = _GOES_ON
            if arguments.detach:
                return latest
        shown = follower(arguments.output)
        latest = pb.Migration()
        with shown.open():
            async for latest in _states(admin):
                shown.show(latest)
        shown.conclude(latest)
        return latest

    try:
        latest = admin_client.run(arguments, go)
    except (KeyboardInterrupt, OSError):  # somebody has seen enough, or what we print cannot be written
        print(left_with, file=sys.stderr)
        raise
    if begin is not None and arguments.detach:
        return _show(arguments, latest)
    return _exit_code(latest)


async def _states(admin: Admin) -> AsyncIterator[pb.Migration]:
    """Yield the migration's states until it has ended, over a restart of the service as well."""
    silent_since = time.monotonic()
    while True:
        try:
            async for migration in admin.stream(admin.stub.MigrateStatus, pb.MigrateStatusRequest(watch=True)):
                silent_since = time.monotonic()
                yield migration
            return
        except Unavailable:
            if time.monotonic() - silent_since > _RESTART_WITHIN_S:
                raise
        await asyncio.sleep(_TRY_AGAIN_S)


def _once(arguments: argparse.Namespace, ask: _Begin) -> int:
    async def go(admin: Admin) -> pb.Migration:
        return await ask(admin)

    return _show(arguments, admin_client.run(arguments, go))


def _show(arguments: argparse.Namespace, migration: pb.Migration) -> int:
    print(texts.json_line(migration) if arguments.output == "json" else migration_text.summary(migration))
    return _exit_code(migration)


def _exit_code(migration: pb.Migration) -> int:
    return exits.INCOMPLETE if migration.state in ("stopped", "aborted") else 0


# --- flags


def _options(arguments: argparse.Namespace) -> pb.PlanOptions:
    if arguments.max_unavailable < 1:
        raise InvalidArgument("--max-unavailable: at least one pod has to move at a time")
    if arguments.max_unavailable > _MOST_AT_ONCE:
        raise InvalidArgument(f"--max-unavailable: {_MOST_AT_ONCE} is the most that can be asked for")
    fields: dict[str, Any] = {"pods": arguments.pod, "exclude": arguments.exclude, "last": arguments.last}
    return pb.PlanOptions(
        target=arguments.to,
        max_unavailable=arguments.max_unavailable,
        pods_json=_text_of(arguments.pods_json),
        **fields,
    )


def _text_of(name: str) -> str:
    if not name:
        return ""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"--pods-json {name} cannot be read: {error}") from error
