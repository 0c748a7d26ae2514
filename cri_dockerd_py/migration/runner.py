"""Carries a migration out: the images first, then pod after pod, until all are moved or one has failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from cri_dockerd_py.errors import CriError
from cri_dockerd_py.migration.images import ImageCopies
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.mover import Mover
from cri_dockerd_py.migration.moves import Move, MoveState, Run, RunState
from cri_dockerd_py.migration.plan import needed_images, source_and_target
from cri_dockerd_py.migration.pods import Pod, pods_of
from cri_dockerd_py.migration.port import NodePort, engine_facts
from cri_dockerd_py.migration.progress import Board, ImageProgress, Progress

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0
_BAD_ENDS = (MoveState.RETURNED, MoveState.FAILED)
#: A fault stops these; a migration that is being aborted goes on to put the default engine back.
_STOPPABLE = (RunState.IMAGES, RunState.MOVING, RunState.PAUSED, RunState.STOPPED)


class Runner:
    """One migration; `run_to_end` may be called again after a pause, a stop, or a restart of the service."""

    def __init__(
        self, run: Run, moves: Iterable[Move], port: NodePort, copies: ImageCopies, journal: Journal, board: Board
    ) -> None:
        self.run = run
        self._moves = {move.uid: move for move in moves}
        self._port = port
        self._copies = copies
        self._journal = journal
        self._board = board
        self._images = ImageProgress()
        self._mover = Mover(port, run.source, run.target, run.options, self._record)
        self._asked = asyncio.Event()  # for a pause or an end
        self._putting = asyncio.Lock()
        self._show()

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves in order."""
        return tuple(self._moves.values())

    # --- asking, from outside

    async def ask(self, state: RunState, only_from: Collection[RunState]) -> bool:
        """Record that the migration is to pause or to end; pods in flight are brought to their end first.

        False when it is in none of the states `only_from` by the time that this would be recorded.
        """
        if not await self._put(state, only_from=only_from):
            return False
        self._asked.set()
        return True

    async def resume(self, now_ns: int) -> None:
        """Record that a migration which was paused or has stopped goes on; its images are looked at once more."""
        await self._put(RunState.IMAGES, only_from=(RunState.PAUSED, RunState.STOPPED), resumed_ns=now_ns)

    # --- carrying out

    async def run_to_end(self) -> None:
        """Go on from wherever the journal is."""
        self._asked.clear()
        try:
            await self._await_engines()
            if self.run.state is RunState.IMAGES:
                await self._bring_images()
            if self._has_moves_to_make:
                await self._move_pods()
        except CriError as error:
            _LOG.error("the migration stops: %s", error)
            await self._put(RunState.STOPPED, str(error), only_from=_STOPPABLE)
        if self.run.state is RunState.ABORTING:
            await self._abort()

    @property
    def _has_moves_to_make(self) -> bool:
        return self.run.state is RunState.MOVING or any(move.state.in_flight for move in self.moves)

    async def _await_engines(self) -> None:
        """Wait until both engines have been read: nothing may be concluded from what is not listed before."""
        while (self.run.state is RunState.IMAGES or self._has_moves_to_make) and self._away():
            self._show()
            await self._port.wait_changed(self._port.generation, _LOOK_AGAIN_S)

    async def _bring_images(self) -> None:
        """Copy what is missing, then let new pods go to the target."""
        source, target = self.run.source, self.run.target
        _, facts = source_and_target(target, engine_facts(self._port))
        # What somebody removed a moment ago may still be listed, and a pod that counts on it would not start again.
        for engine in (source, target):
            await self._port.refresh_images(engine)
        at_source, at_target = self._port.images(source), self._port.images(target)
        images = needed_images(self._leaving_pods(), at_source, at_target, facts)
        await self._until_asked(self._copies.bring(source, target, images, self._note_images))
        if self.run.state is not RunState.IMAGES:
            return
        if self.run.options.plan.is_whole_node:
            for uid in self.run.kept:
                await self._port.pin(uid, source)
            await self._port.set_default_engine(target)
        await self._put(RunState.MOVING, only_from=(RunState.IMAGES,))

    def _leaving_pods(self) -> list[Pod]:
        """Return the pods whose images the target has to have: those that move, or all where new ones go there."""
        pods = pods_of(self._port.sandboxes.values(), self._port.containers.values()).values()
        everything = self.run.options.plan.is_whole_node
        return [pod for pod in pods if pod.engine == self.run.source and (everything or pod.uid in self._moves)]

    async def _until_asked(self, work: Coroutine[Any, Any, object]) -> None:
        """Do the work, or let it be when a pause or an end is asked for."""
        asked = asyncio.ensure_future(self._asked.wait())
        job = asyncio.ensure_future(work)
        try:
            await asyncio.wait((asked, job), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not job.done():
                job.cancel()
            await asyncio.wait((asked, job))
        if not job.cancelled():
            job.result()

    async def _move_pods(self) -> None:
        """Move all pods that have not ended, those that were in flight first."""
        in_flight: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for move in sorted(self._moves.values(), key=lambda move: not move.state.in_flight):
                if move.state.ended:
                    continue
                if not move.state.in_flight and not await self._may_begin(move, in_flight):
                    break
                in_flight.add(group.create_task(self._carry(move), name=f"move of {move.full_name}"))
            while not all(job.done() for job in in_flight):
                await asyncio.wait(in_flight, timeout=_LOOK_AGAIN_S)
                self._show()
        if self.run.state is RunState.MOVING:
            await self._conclude()

    async def _may_begin(self, move: Move, in_flight: set[asyncio.Task[None]]) -> bool:
        """Wait for the move's turn; False when the migration shall not go on."""
        room = self.run.options.plan.max_unavailable
        while self.run.state is RunState.MOVING and not self._failure():
            self._show()
            in_flight -= {job for job in in_flight if job.done()}
            alone = move.alone or any(other.alone for other in self._moves.values() if other.state.in_flight)
            if in_flight and (alone or len(in_flight) >= room):
                await asyncio.wait(in_flight, timeout=_LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            elif self._away():
                await self._port.wait_changed(self._port.generation, _LOOK_AGAIN_S)
            else:
                return True
        return False

    async def _carry(self, move: Move) -> None:
        try:
            await self._mover.move(move)
        except Exception:
            _LOG.exception("the move of pod %s was given up", move.full_name)
            reason = f"a fault of this service while pod {move.full_name} moved; see its log"
            await self._put(RunState.STOPPED, reason, only_from=_STOPPABLE)

    async def _conclude(self) -> None:
        failure = self._failure()
        if failure is None:
            if await self._put(RunState.DONE, only_from=(RunState.MOVING,)):
                _LOG.info("all pods are moved to %s", self.run.target)
            return
        where = f"it is back on {self.run.source}" if failure.state is MoveState.RETURNED else "it needs a look"
        reason = f"pod {failure.full_name}: {failure.reason}; {where}"
        await self._put(RunState.STOPPED, reason, only_from=(RunState.MOVING,))

    async def _abort(self) -> None:
        """New pods go where they went before."""
        await self._port.set_default_engine(self.run.default_before)
        await self._put(RunState.ABORTED, self.run.reason, only_from=(RunState.ABORTING,))

    def _failure(self) -> Move | None:
        """Return the first move that failed since the migration was last begun or resumed."""
        return next(
            (m for m in self._moves.values() if m.state in _BAD_ENDS and m.ended_ns >= self.run.resumed_ns), None
        )

    def _away(self) -> str:
        return ", ".join(f"{side.name} ({side.health.reason})" for side in self._port.sides() if not side.health.ready)

    # --- keeping

    async def _record(self, move: Move) -> None:
        await self._journal.put_move(self.run.id, move)
        self._moves[move.uid] = move
        self._show()

    async def _put(self, state: RunState, reason: str = "", *, only_from: Collection[RunState], **changes: Any) -> bool:
        """Record the next state; False when the present one is none of `only_from`: somebody asked for another."""
        async with self._putting:
            if self.run.state not in only_from:
                return False
            ended_ns = time.time_ns() if state.ended else 0
            run = replace(self.run, state=state, reason=reason, ended_ns=ended_ns, **changes)
            await self._journal.put_run(run)
            self.run = run
            self._show()
        return True

    def _note_images(self, images: ImageProgress) -> None:
        self._images = images
        self._show()

    def _show(self) -> None:
        away = "" if self.run.state.ended else self._away()
        waiting = f"waiting for {away}" if away else ""
        self._board.show(Progress(self.run, self.moves, self._images, waiting))
