"""Brings one node to the target and keeps saying how it stands; it may be restarted at any time, and is moved itself.

What it wants is read from what is there: it never begins a migration twice, and never goes on with one that has
stopped, which is for a person to look at (`migrate resume`, `migrate rollback`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli.admin_client import Admin
from cri_dockerd_py.cli.fleet.api_server import ApiServer
from cri_dockerd_py.errors import CriError

_LOG = logging.getLogger(__name__)
ANNOTATION = "cri-dockerd-py/migration"
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How the node stands: `state` is for scripts, `text` for people."""

    state: str
    text: str

    @property
    def complete(self) -> bool:
        """Whether the rollout may go on to the next node."""
        return self.state in ("idle", "complete")


class Agent:
    """Drives one node; `ready` is the file that the readiness probe looks for."""

    def __init__(
        self, admin: Admin, api: ApiServer, target: str, max_unavailable: int, own_pod: str, ready: Path
    ) -> None:
        self._admin = admin
        self._api = api
        self._target = target
        self._max_unavailable = max_unavailable
        self._own_pod = own_pod
        self._ready = ready
        self._told: Standing | None = None

    async def run(self) -> None:
        """Look, act and report for ever."""
        while True:
            try:
                standing = await self._step()
            except CriError as error:
                standing = Standing("unknown", str(error))
            self._show(standing)
            await self._report(standing)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _step(self) -> Standing:
        status = await self._admin.call(self._admin.stub.Status, pb.StatusRequest())
        migration = status.migration
        if not self._target:
            return Standing("idle", f"no target is set; new pods go to {status.default_engine}")
        if migration.id and not migration.ended:
            return Standing("migrating", _progress(migration))
        if migration.target == self._target and migration.state in ("stopped", "aborted"):
            return Standing(migration.state, migration.reason or f"the migration was {migration.state}")
        if migration.is_rollback and migration.source == self._target:
            return Standing("rolled-back", f"somebody has brought the pods back to {migration.target}")
        options = pb.PlanOptions(
            target=self._target,
            max_unavailable=self._max_unavailable,
            last=[self._own_pod],
            pods_json=await self._api.pods_json(),
        )
        plan = await self._admin.call(self._admin.stub.MigratePlan, pb.MigratePlanRequest(options=options))
        if status.default_engine == self._target and not plan.moves:
            left = "".join(f"; {stay.pod} stays: {stay.reason}" for stay in plan.stays)
            return Standing("complete", f"all pods that can move are on {self._target}{left}")
        begun = await self._admin.call(self._admin.stub.MigrateRun, pb.MigrateRunRequest(options=options))
        return Standing("migrating", _progress(begun))

    def _show(self, standing: Standing) -> None:
        """Let the readiness probe know."""
        if standing.complete:
            self._ready.parent.mkdir(parents=True, exist_ok=True)
            self._ready.touch()
        else:
            self._ready.unlink(missing_ok=True)

    async def _report(self, standing: Standing) -> None:
        """Annotate the node with every change, and post an event when the state is another one."""
        if standing == self._told:
            return
        _LOG.info("%s: %s", standing.state, standing.text)
        try:
            await self._api.annotate({ANNOTATION: f"{standing.state}: {standing.text}"[:1000]})
            if self._told is None or standing.state != self._told.state:
                kind = "Normal" if standing.complete or standing.state == "migrating" else "Warning"
                await self._api.event(kind, f"Migration{standing.state.capitalize()}", standing.text)
            self._told = standing
        except CriError as error:
            _LOG.warning("could not report, will try again: %s", error)


def _progress(migration: pb.Migration) -> str:
    counts = Counter(move.state for move in migration.moves)
    done = counts["done"] + counts["skipped"]
    waiting = f", {migration.waiting}" if migration.waiting else ""
    return f"{migration.state} to {migration.target}, {done} of {len(migration.moves)} pods{waiting}"
