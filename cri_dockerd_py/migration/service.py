"""Migration as the admin socket sees it: one at a time, driven by the journal, whoever watches or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cri_dockerd_py.errors import CriError, FailedPrecondition, Unavailable
from cri_dockerd_py.migration.facts import PodFacts
from cri_dockerd_py.migration.finish import FinishReport, finish
from cri_dockerd_py.migration.images import ImageCopies, Transfers
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.moves import Move, MoveState, Run, RunOptions, RunState
from cri_dockerd_py.migration.obstacles import Obstacle
from cri_dockerd_py.migration.plan import Plan, PlanOptions, make_plan, source_and_target
from cri_dockerd_py.migration.pods import Pod, pods_of
from cri_dockerd_py.migration.port import NodePort, engine_facts
from cri_dockerd_py.migration.progress import Board, ImageProgress, Progress
from cri_dockerd_py.migration.runner import Runner

_LOG = logging.getLogger(__name__)
_KUBELET_WITHIN_S = 60.0
#: Pods whose next sandboxes go to the source as well: nobody wants them on the target, or they cannot run there.
_KEPT_WHERE_THEY_ARE = (Obstacle.NOT_CHOSEN, Obstacle.IMAGE_FORMAT)


class Migrations:
    """The migrations of a node. `heard_of_kubelet_s` returns how long ago pods were last listed by a CRI client."""

    def __init__(
        self, port: NodePort, transfers: Transfers, journal: Journal, heard_of_kubelet_s: Callable[[], float]
    ) -> None:
        self._port = port
        self._copies = ImageCopies(port, transfers)
        self._journal = journal
        self._heard_of_kubelet_s = heard_of_kubelet_s
        self._board = Board()
        self._runner: Runner | None = None
        self._job: asyncio.Task[None] | None = None
        self._unreadable = ""  # why the journal cannot be acted on
        #: Held by whoever begins, ends or buries; not while a migration is waited for.
        self._deciding = asyncio.Lock()

    # --- life

    async def restore(self) -> None:
        """Go on with what an earlier process was doing; call it when the engines have been read.

        A journal that cannot be read stops migrations, and nothing else: pods are served as they are.
        """
        try:
            last = await self._journal.last()
        except (CriError, ValueError, KeyError) as error:
            self._unreadable = _unreadable(error, self._journal.path)
            _LOG.error("%s", self._unreadable)
            return
        if last is None:
            return
        run, moves = last
        self._runner = self._make_runner(run, moves)
        if not run.state.ended or any(move.state.in_flight for move in moves):
            _LOG.info("going on with the migration to %s, which is %s", run.target, run.state.value)
            self._start()

    async def close(self) -> None:
        """Let it be, as a crash would: the journal has all of it."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait((self._job,))

    # --- reading

    def plan(self, options: PlanOptions, facts: Mapping[str, PodFacts] | None = None) -> Plan:
        """Return what a migration with these options would do now."""
        return self._plan(options, facts, frozenset())

    @property
    def progress(self) -> Progress:
        """The newest migration as it is now."""
        return self._board.progress

    @property
    def on_progress(self) -> list[Callable[[], None]]:
        """What is called when there is other progress."""
        return self._board.on_change

    def watch(self) -> AsyncIterator[Progress]:
        """Yield the newest migration's progress, now and whenever it changes."""
        self._require_journal()
        return self._board.watch()

    # --- doing

    async def bring_images(self, options: PlanOptions, note: Callable[[ImageProgress], None]) -> Plan:
        """Copy the images that a migration with these options needs, and move nothing."""
        self._require_ended()
        await self._wait_idle()
        self._require_engines()
        for side in self._port.sides():
            await self._port.refresh_images(side.name)
        plan = self.plan(options)
        await self._copies.bring(plan.source, plan.target, plan.images, note)
        return self.plan(options)

    async def run(self, options: RunOptions, facts: Mapping[str, PodFacts] | None = None) -> Plan:
        """Begin a migration, and return its plan; it goes on by itself."""
        async with self._when_idle(self._require_ended):
            plan = self.plan(options.plan, facts)
            await self._begin(plan, options, is_rollback=False)
        return plan

    async def rollback(self) -> Plan:
        """Begin to bring back what the newest migration has moved, and let new pods go where they went before."""
        async with self._when_idle(self._require_undoable):
            runner = self._require_runner()
            moved = {move.uid: move.full_name for move in runner.moves if move.state is MoveState.DONE}
            before = runner.run.options.plan
            names = () if before.is_whole_node else tuple(moved.values()) or before.pods
            back = replace(before, target=runner.run.source, pods=names)
            options = replace(runner.run.options, plan=back)
            plan = self._plan(back, None, frozenset(moved))
            if runner.run.state is RunState.PAUSED:
                await runner.ask(RunState.ABORTED, (RunState.PAUSED,))
            await self._begin(plan, options, is_rollback=True)
        return plan

    async def pause(self) -> Progress:
        """Begin no more moves; those in flight come to their end."""
        return await self._ask(RunState.PAUSED, (RunState.IMAGES, RunState.MOVING))

    async def abort(self) -> Progress:
        """Begin no more moves, and let new pods go where they went before; what has moved stays moved."""
        async with self._deciding:
            states = (RunState.IMAGES, RunState.MOVING, RunState.PAUSED, RunState.STOPPED)
            await self._ask(RunState.ABORTING, states)
            if self._job is not None and not self._job.done():
                return self.progress
            job = self._start()
        await asyncio.wait((job,))
        if not job.cancelled():
            job.result()
        return self.progress

    async def resume(self) -> Progress:
        """Go on after a pause or a stop; moves that have failed are not tried again."""
        async with self._when_idle(self._require_resumable):
            await self._require_runner().resume(time.time_ns())
            self._start()
            return self.progress

    async def finish(self, engine: str = "") -> FinishReport:
        """Bury what is dead on the engine that the newest migration left, or on the named one, and say what is left."""
        async with self._when_idle(self._require_ended):
            left = engine or self._require_runner().run.source
            other, _ = source_and_target(left, engine_facts(self._port))
            self._require_engines()
            runner = self._runner
            pinned = () if runner is None else (*runner.run.kept, *(move.uid for move in runner.moves))
            return await finish(self._port, left, other.name, pinned)

    # --- inside

    def _plan(self, options: PlanOptions, facts: Mapping[str, PodFacts] | None, moved: frozenset[str]) -> Plan:
        facts_of_engines = engine_facts(self._port)
        images = {engine.name: self._port.images(engine.name) for engine in facts_of_engines}
        return make_plan(options, facts_of_engines, self._pods(), images, facts, moved)

    def _pods(self) -> list[Pod]:
        """Return the pods, without those of which tombstones alone are left."""
        pods = pods_of(self._port.sandboxes.values(), self._port.containers.values()).values()
        return [pod for pod in pods if not self._port.is_tombstone(pod.newest.id)]

    async def _begin(self, plan: Plan, options: RunOptions, *, is_rollback: bool) -> None:
        self._require_engines()
        self._require_kubelet()
        now = time.time_ns()
        kept = tuple(stay.uid for stay in plan.stays if stay.obstacle in _KEPT_WHERE_THEY_ARE)
        default_before = self._port.default_engine()
        run = Run(
            0,
            plan.source,
            plan.target,
            options,
            RunState.IMAGES,
            default_before,
            now,
            now,
            kept,
            is_rollback=is_rollback,
        )
        moves = [
            Move(move.uid, move.namespace, move.name, alone=move.alone, grace_s=move.grace_s) for move in plan.moves
        ]
        self._runner = self._make_runner(await self._journal.begin(run, moves), tuple(moves))
        self._start()

    def _make_runner(self, run: Run, moves: tuple[Move, ...]) -> Runner:
        return Runner(run, moves, self._port, self._copies, self._journal, self._board)

    def _start(self) -> asyncio.Task[None]:
        runner = self._require_runner()
        self._job = job = asyncio.get_running_loop().create_task(runner.run_to_end(), name="migration")
        job.add_done_callback(self._ended)
        return job

    def _ended(self, job: asyncio.Task[None]) -> None:
        if self._job is job:
            self._job = None
        if not job.cancelled() and (error := job.exception()) is not None:
            _LOG.error("the migration was given up by a fault of this service", exc_info=error)

    async def _ask(self, state: RunState, allowed: tuple[RunState, ...]) -> Progress:
        runner = self._require_runner()
        if not await runner.ask(state, allowed):
            raise FailedPrecondition(f"the migration is {runner.run.state.value}, so it cannot be {state.value} now")
        return self.progress

    @contextlib.asynccontextmanager
    async def _when_idle(self, require: Callable[[], object]) -> AsyncIterator[None]:
        """Let nobody else decide, with no move in flight and what is required; others may decide while it waits."""
        while True:
            async with self._deciding:
                require()
                if (job := self._job) is None:
                    yield
                    return
            await asyncio.wait((job,))

    async def _wait_idle(self) -> None:
        """Wait until moves in flight have come to their end."""
        while (job := self._job) is not None:
            await asyncio.wait((job,))

    # --- conditions

    def _require_journal(self) -> None:
        if self._unreadable:
            raise FailedPrecondition(self._unreadable)

    def _require_runner(self) -> Runner:
        self._require_journal()
        if self._runner is None:
            raise FailedPrecondition("there is no migration; `migrate run --to ENGINE` begins one")
        return self._runner

    def _require_ended(self) -> None:
        self._require_journal()
        if self._runner is not None and not self._runner.run.state.ended:
            state = self._runner.run.state.value
            raise FailedPrecondition(f"a migration to {self._runner.run.target} is {state}: abort it, or let it end")

    def _require_undoable(self) -> None:
        run = self._require_runner().run
        if run.is_rollback:
            raise FailedPrecondition("the newest migration is a rollback itself; run a new one to move the pods again")
        if not run.state.ended and run.state is not RunState.PAUSED:
            raise FailedPrecondition(f"the migration is {run.state.value}: abort or pause it first")

    def _require_resumable(self) -> None:
        run = self._require_runner().run
        if run.state not in (RunState.PAUSED, RunState.STOPPED):
            raise FailedPrecondition(f"the migration is {run.state.value}: there is nothing to resume")
        self._require_engines()
        self._require_kubelet()

    def _require_engines(self) -> None:
        for side in self._port.sides():
            if not side.health.ready:
                raise Unavailable(f"{side.name} cannot be reached ({side.health.reason}); start it first")

    def _require_kubelet(self) -> None:
        silent_s = self._heard_of_kubelet_s()
        if silent_s > _KUBELET_WITHIN_S:
            raise FailedPrecondition(
                "kubelet has not listed pods here for more than a minute, and it is kubelet that moves them: "
                "start it, and see that it uses this service's socket"
            )


def _unreadable(error: Exception, path: Path) -> str:
    return (
        f"the newest migration in {path} cannot be read, so nothing is moved; pods are served as they are: {error}. "
        "Install the version that wrote it and restart the service to go on; or, to give that migration up, stop the "
        f"service, delete the rows of the tables `moves` and `migrations` in {path}, and start it again"
    )
