"""What the service is doing, in a line for the service manager: `systemctl status` shows it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.health import EngineHealth
from cri_dockerd_py.core.inventory import Inventory
from cri_dockerd_py.daemon.log_lines import without_secrets
from cri_dockerd_py.daemon.service_manager import ServiceManager
from cri_dockerd_py.migration.moves import RunState
from cri_dockerd_py.migration.progress import Progress
from cri_dockerd_py.migration.service import Migrations
from cri_dockerd_py.model.sandbox import SandboxState

#: The manager tells everyone who watches it of each line, so that it gets no more of them than this.
_TELL_EVERY_S = 1.0
_REASON_LENGTH = 160


class StatusLine:
    """Tells a step of the start or the end as it is begun, and what is served whenever that changes."""

    def __init__(self, manager: ServiceManager, tell_every_s: float = _TELL_EVERY_S) -> None:
        self._manager = manager
        self._tell_every_s = tell_every_s
        self._step = "Starting"
        self._told = ""
        self._sides: tuple[Side, ...] = ()
        self._inventory = Inventory()
        self._migrations: Migrations | None = None
        self._settings_problem = ""
        self._changed = asyncio.Event()
        #: Set once the start is over.
        self.serving = asyncio.Event()

    # --- what it is made of

    def join(self, sides: Iterable[Side], inventory: Inventory) -> None:
        """Follow the engines and their pods."""
        self._sides, self._inventory = tuple(sides), inventory
        for side in self._sides:
            side.health.on_change.append(self._changed.set)
        inventory.on_sandbox.append(lambda _old, _new: self._changed.set())

    def join_migrations(self, migrations: Migrations) -> None:
        """Follow the newest migration."""
        self._migrations = migrations
        migrations.on_progress.append(self._changed.set)

    def note_settings(self, problem: str) -> None:
        """Take note of why the settings file cannot be used, or (empty) that it can."""
        self._settings_problem = problem

    # --- telling

    def step(self, text: str, *states: str) -> None:
        """Tell of a step, which stays until another one or `serve`, with further states such as `STOPPING=1`."""
        self._step = text
        self._tell(states)

    def wait_for_engines(self) -> None:
        """Tell that the engines are waited for."""
        self.step(f"Waiting for {_listed([side.name for side in self._sides])}")

    def serve(self, *states: str) -> None:
        """Tell from now on what is served."""
        self.serving.set()
        self.step("", *states)

    async def run(self) -> None:
        """Tell what changes."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.text() != self._told:
                self._tell(())
                await asyncio.sleep(self._tell_every_s)

    def text(self) -> str:
        """Return the line."""
        if self._step:
            return self._step
        parts = [self._serving(), *(_away(side.health) for side in self._sides if not side.health.ready)]
        if self._migrations is not None:
            parts.append(_migration(self._migrations.progress))
        if self._settings_problem:
            parts.append(f"the settings file has an error: {_short(self._settings_problem)}; the earlier settings stay")
        return "; ".join(part for part in parts if part)

    def _tell(self, states: Sequence[str]) -> None:
        self._told = self.text()
        self._manager.tell("\n".join((*states, f"STATUS={self._told}")))

    def _serving(self) -> str:
        ready = [side.name for side in self._sides if side.health.ready]
        if not ready:
            return "Serving"
        sandboxes = self._inventory.sandboxes.values()
        pods = sum(record.state is SandboxState.READY and record.engine in ready for record in sandboxes)
        return f"Serving on {_listed(ready)}, {pods} {'pod' if pods == 1 else 'pods'}"


def _away(health: EngineHealth) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(health.since_s))
    return f"{health.engine_name} away since {since} UTC: {_short(health.reason)}"


def _migration(progress: Progress) -> str:
    """Return how the newest migration stands, empty where there is nothing more to do."""
    run = progress.run
    if run is None:
        return ""
    to = f"{'back ' if run.is_rollback else ''}to {run.target}"
    ended = Counter(move.state.ended for move in progress.moves)[True]
    pods = f"{ended}/{len(progress.moves)}"
    return {
        RunState.IMAGES: f"copying images {progress.images.images_done}/{progress.images.images_total} {to}",
        RunState.MOVING: f"moving pods {pods} {to}",
        RunState.PAUSED: f"moving pods {to} is paused after {pods}",
        RunState.ABORTING: f"moving pods {to} is being ended after {pods}",
        RunState.STOPPED: f"moving pods {to} has stopped after {pods}: see cri-dockerd-py migrate status",
    }.get(run.state, "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def _short(text: str) -> str:
    """Return a reason as part of a line."""
    line = "".join(char if char.isprintable() else "?" for char in " ".join(without_secrets(text).split()))
    return line if len(line) <= _REASON_LENGTH else f"{line[: _REASON_LENGTH - 1]}…"
