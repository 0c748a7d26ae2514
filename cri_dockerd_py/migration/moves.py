"""A migration and the moves of its pods as values, with the changes of state that are legal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cri_dockerd_py.migration.plan import PlanOptions


class MoveState(Enum):
    """Where the move of one pod is.

    PLANNED: nothing was done. LEAVING: the decision is taken, its sandbox is (about to be) shown as NOTREADY. SETTLING:
    its containers run on the target and are watched for a while. DONE: they run there. RETURNING: the move has failed,
    and the pod goes back. RETURNED: it runs at the source again. FAILED: it runs nowhere as it did before, somebody has
    to look. SKIPPED: the pod went away, or could not be moved any more when its turn came.
    """

    PLANNED = "planned"
    LEAVING = "leaving"
    SETTLING = "settling"
    DONE = "done"
    RETURNING = "returning"
    RETURNED = "returned"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def in_flight(self) -> bool:
        """Whether the pod may be unavailable because of the move."""
        return self in (MoveState.LEAVING, MoveState.SETTLING, MoveState.RETURNING)

    @property
    def ended(self) -> bool:
        """Whether nothing more will be done."""
        return not self.in_flight and self is not MoveState.PLANNED


#: Legal changes; LEAVING follows SETTLING when kubelet makes the pod anew once more in between.
MOVE_TRANSITIONS: Mapping[MoveState, frozenset[MoveState]] = {
    MoveState.PLANNED: frozenset({MoveState.LEAVING, MoveState.SKIPPED}),
    MoveState.LEAVING: frozenset({MoveState.SETTLING, MoveState.RETURNING, MoveState.SKIPPED}),
    MoveState.SETTLING: frozenset({MoveState.DONE, MoveState.LEAVING, MoveState.RETURNING, MoveState.SKIPPED}),
    MoveState.RETURNING: frozenset({MoveState.RETURNED, MoveState.FAILED, MoveState.SKIPPED}),
    MoveState.DONE: frozenset(),
    MoveState.RETURNED: frozenset(),
    MoveState.FAILED: frozenset(),
    MoveState.SKIPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Move:
    """The move of one pod. Times are ns since the epoch, 0 when not yet.

    `left_sandbox_id` is the sandbox that the pod leaves; `expected` are the containers that ran in it.
    """

    uid: str
    namespace: str
    name: str
    state: MoveState = MoveState.PLANNED
    alone: bool = False
    grace_s: int = 30
    left_sandbox_id: str = ""
    expected: tuple[str, ...] = ()
    new_sandbox_id: str = ""
    reason: str = ""
    began_ns: int = 0
    ended_ns: int = 0
    attempts: int = 0

    @property
    def full_name(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


class RunState(Enum):
    """Where a migration is. STOPPED: a move has failed; ABORTED: somebody ended it; both can be rolled back."""

    IMAGES = "images"
    MOVING = "moving"
    PAUSED = "paused"
    ABORTING = "aborting"
    DONE = "done"
    STOPPED = "stopped"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether it will not go on by itself or by `resume`."""
        return self in (RunState.DONE, RunState.STOPPED, RunState.ABORTED)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How pods are moved. Times in seconds.

    `return_within_s` comes on top of the pod's grace period; `settle_s` is how long its containers have to run.
    """

    plan: PlanOptions
    settle_s: float = 10.0
    return_within_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """A migration; its moves are kept beside it.

    `default_before` is the engine of new pods before it began; `kept` are the uids of pods that stay at the source when
    new pods go to the target; `resumed_ns` is when it was last begun or resumed.
    """

    id: int
    source: str
    target: str
    options: RunOptions
    state: RunState
    default_before: str
    began_ns: int
    resumed_ns: int
    kept: tuple[str, ...] = ()
    ended_ns: int = 0
    reason: str = ""
    is_rollback: bool = False
