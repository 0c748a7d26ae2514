"""Moves one pod: shows its sandbox as NOTREADY, waits for kubelet to make it anew on the other engine, watches it run.

Each step is in the journal before it is taken, and may be repeated. A pod that does not come back well goes back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from cri_dockerd_py.errors import CriError, Internal
from cri_dockerd_py.migration.moves import MOVE_TRANSITIONS, Move, MoveState, RunOptions
from cri_dockerd_py.migration.obstacles import unsettled
from cri_dockerd_py.migration.pods import Pod, pods_of
from cri_dockerd_py.migration.port import NodePort
from cri_dockerd_py.migration.sight import Sight, Standing, look

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_SHORTEST_PAUSE_S = 0.01
_ATTEMPTS = 3
_UNDER_WAY = frozenset({Standing.LEFT, Standing.STARTING})

Record = Callable[[Move], Awaitable[None]]


class Mover:
    """Moves pods from `source` to `target`; `record` writes a move into the journal."""

    def __init__(self, port: NodePort, source: str, target: str, options: RunOptions, record: Record) -> None:
        self._port = port
        self._source = source
        self._target = target
        self._options = options
        self._record = record

    async def move(self, move: Move) -> Move:
        """Take the move to its end from wherever it is, and return it as it ended."""
        steps = {
            MoveState.PLANNED: self._leave,
            MoveState.LEAVING: self._await_arrival,
            MoveState.SETTLING: self._settle,
            MoveState.RETURNING: self._go_back,
        }
        while not move.state.ended:
            try:
                move = await steps[move.state](move)
            except CriError as error:
                move = await self._failed(move, str(error))
        return move

    # --- steps

    async def _leave(self, move: Move) -> Move:
        """Decide; nothing is shown yet."""
        pod = self._pod(move.uid)
        if pod is None or pod.engine != self._source:
            return await self._put(move, MoveState.SKIPPED, reason="it is not on the source any more")
        if not pod.is_ready:
            reason = "its sandbox has ended meanwhile: kubelet makes it anew where new pods go"
            return await self._put(move, MoveState.SKIPPED, reason=reason)
        if (obstacle := unsettled(pod)) is not None:
            return await self._put(move, MoveState.SKIPPED, reason=obstacle.why)
        _LOG.info("moving pod %s from %s to %s", move.full_name, self._source, self._target)
        expected = tuple(sorted(pod.running))
        return await self._put(
            move,
            MoveState.LEAVING,
            left_sandbox_id=pod.newest.id,
            expected=expected,
            grace_s=pod.grace_s,
            began_ns=time.time_ns(),
            attempts=move.attempts + 1,
        )

    async def _await_arrival(self, move: Move) -> Move:
        """Show the sandbox as NOTREADY and wait until kubelet has made the next one."""
        await self._port.pin(move.uid, self._target)
        await self._port.report_not_ready(move.left_sandbox_id)
        sight = await self._watch(move, self._target, until=_not(Standing.LEFT))
        match sight.standing:
            case Standing.GONE:
                return await self._let_go(move, sight.detail)
            case Standing.ELSEWHERE if move.attempts < _ATTEMPTS:
                # Kubelet was making it anew already when the decision was taken.
                attempts = move.attempts + 1
                return await self._put(move, MoveState.LEAVING, left_sandbox_id=sight.sandbox_id, attempts=attempts)
            case Standing.STARTING | Standing.RUNNING | Standing.DOWN:
                return await self._put(move, MoveState.SETTLING, new_sandbox_id=sight.sandbox_id)
        return await self._failed(move, sight.detail)

    async def _settle(self, move: Move) -> Move:
        """Wait until all of its containers run, and have run for a while.

        When its first sandbox there ends as a whole, as all do in a reboot, kubelet has one more go.
        """

        def is_decided(sight: Sight) -> bool:
            is_made_anew = sight.standing is Standing.DOWN and sight.sandbox_id == move.new_sandbox_id
            return sight.standing not in _UNDER_WAY and not is_made_anew

        sight = await self._watch(move, self._target, until=is_decided, settle=True)
        if sight.standing is Standing.GONE:
            return await self._let_go(move, sight.detail)
        if sight.standing is not Standing.RUNNING:
            return await self._failed(move, sight.detail)
        if self._port.default_engine() == self._target:
            await self._port.unpin(move.uid)
        _LOG.info("pod %s runs on %s", move.full_name, self._target)
        return await self._put(move, MoveState.DONE, new_sandbox_id=sight.sandbox_id, ended_ns=time.time_ns())

    async def _failed(self, move: Move, reason: str) -> Move:
        """Begin to go back, or give up when that has failed as well."""
        if move.state is MoveState.RETURNING:
            reason = f"{move.reason}; and it did not come back on {self._source}: {reason}"
            _LOG.error("pod %s does not run as before: %s", move.full_name, reason)
            return await self._put(move, MoveState.FAILED, reason=reason, ended_ns=time.time_ns())
        if move.state is MoveState.PLANNED:
            return await self._put(move, MoveState.SKIPPED, reason=reason)
        _LOG.warning("pod %s did not come up on %s and goes back: %s", move.full_name, self._target, reason)
        return await self._put(move, MoveState.RETURNING, reason=reason)

    async def _go_back(self, move: Move) -> Move:
        """Have kubelet make the pod anew at the source, and watch it run there."""
        await self._port.pin(move.uid, self._source)
        pod = self._pod(move.uid)
        if pod is not None and pod.newest.id == move.left_sandbox_id and set(move.expected) <= pod.running:
            # Kubelet has not touched it, so there is nothing to make anew.
            await self._port.report_ready(move.left_sandbox_id)
            return await self._put(move, MoveState.RETURNED, ended_ns=time.time_ns())
        left = move.left_sandbox_id
        if pod is not None and pod.engine == self._target:
            left = pod.newest.id
            await self._port.report_not_ready(left)
        sight = await self._watch(
            replace(move, left_sandbox_id=left), self._source, until=_not(*_UNDER_WAY, Standing.ELSEWHERE), settle=True
        )
        if sight.standing is Standing.GONE:
            return await self._let_go(move, f"{move.reason}; {sight.detail}")
        if sight.standing is not Standing.RUNNING:
            return await self._failed(move, sight.detail)
        _LOG.info("pod %s runs on %s again", move.full_name, self._source)
        return await self._put(move, MoveState.RETURNED, ended_ns=time.time_ns())

    async def _let_go(self, move: Move, reason: str) -> Move:
        """The pod is gone; one that comes with its uid later, as static pods do, goes where new pods go."""
        await self._port.unpin(move.uid)
        return await self._put(move, MoveState.SKIPPED, reason=reason)

    # --- looking

    async def _watch(self, move: Move, engine: str, *, until: Callable[[Sight], bool], settle: bool = False) -> Sight:
        """Return the first look that fits, or the last one when time is up; time does not pass without an engine.

        With `settle`, RUNNING fits when it has been seen for long enough.
        """
        loop = asyncio.get_running_loop()
        left_s = move.grace_s + self._options.return_within_s
        running_s = 0.0
        while True:
            generation = self._port.generation
            sight = look(self._pod(move.uid), engine, move.left_sandbox_id, move.expected)
            is_running = sight.standing is Standing.RUNNING
            running_s = running_s if is_running else 0.0
            settled = not (settle and is_running) or running_s >= self._options.settle_s
            if (until(sight) and settled and self._engines_answer()) or (left_s <= 0 and not is_running):
                return sight
            room_s = self._options.settle_s - running_s if is_running else _LOOK_EVERY_S
            began = loop.time()
            await self._port.wait_changed(generation, min(max(room_s, _SHORTEST_PAUSE_S), _LOOK_EVERY_S))
            passed_s = loop.time() - began
            if self._engines_answer():
                left_s -= passed_s
                running_s += passed_s if is_running else 0.0

    def _engines_answer(self) -> bool:
        """Whether what is listed is whole, and kubelet can do its part."""
        return all(side.health.ready for side in self._port.sides())

    def _pod(self, uid: str) -> Pod | None:
        sandboxes = [record for record in self._port.sandboxes.values() if record.spec.metadata.uid == uid]
        return pods_of(sandboxes, self._port.containers.values()).get(uid)

    async def _put(self, move: Move, state: MoveState, **changes: Any) -> Move:
        """Record the next state of a move, and return it."""
        if state is not move.state and state not in MOVE_TRANSITIONS[move.state]:
            raise Internal(f"pod {move.full_name}: a move cannot go from {move.state.value} to {state.value}")
        changed = replace(move, state=state, **changes)
        await self._record(changed)
        return changed


def _not(*standings: Standing) -> Callable[[Sight], bool]:
    excluded: Collection[Standing] = frozenset(standings)
    return lambda sight: sight.standing not in excluded
