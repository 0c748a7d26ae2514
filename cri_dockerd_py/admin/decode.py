"""Messages of the admin socket as migration's values; pure."""

from __future__ import annotations

from collections.abc import Mapping

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.migration.facts import PodFacts, read_pod_facts
from cri_dockerd_py.migration.moves import RunOptions
from cri_dockerd_py.migration.plan import PlanOptions

_DEFAULTS = RunOptions(PlanOptions("-"))


def plan_options(message: pb.PlanOptions) -> PlanOptions:
    """Return what is to be planned, or raise InvalidArgument."""
    if not message.target:
        raise InvalidArgument("no target engine is named: give containerd or docker")
    for pattern in (*message.pods, *message.exclude, *message.last):
        if pattern.count("/") != 1:
            raise InvalidArgument(f"{pattern!r} names no pod: write namespace/name, in which * stands for anything")
    return PlanOptions(
        target=message.target,
        pods=tuple(message.pods),
        exclude=tuple(message.exclude),
        last=tuple(message.last),
        max_unavailable=message.max_unavailable or 1,
    )


def run_options(message: pb.MigrateRunRequest) -> RunOptions:
    """Return how pods are to be moved, or raise InvalidArgument."""
    if not (message.settle_seconds >= 0 and message.return_within_seconds >= 0):  # NaN is neither
        raise InvalidArgument("times are given in seconds, and none is negative")
    return RunOptions(
        plan_options(message.options),
        message.settle_seconds or _DEFAULTS.settle_s,
        message.return_within_seconds or _DEFAULTS.return_within_s,
    )


def pod_facts(message: pb.PlanOptions) -> Mapping[str, PodFacts]:
    """Return what the API server knows of the pods, nothing where it was not asked."""
    return read_pod_facts(message.pods_json) if message.pods_json else {}
