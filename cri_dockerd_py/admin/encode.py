"""What migration tells, as messages of the admin socket; pure."""

from __future__ import annotations

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.migration.finish import FinishReport
from cri_dockerd_py.migration.moves import Move
from cri_dockerd_py.migration.plan import Plan, PlannedImage, PlannedMove, Stay
from cri_dockerd_py.migration.progress import ImageProgress, Progress


def plan(value: Plan) -> pb.Plan:
    """Return the message of a plan."""
    return pb.Plan(
        source=value.source,
        target=value.target,
        moves=[_planned_move(move) for move in value.moves],
        stays=[_stay(stay) for stay in value.stays],
        images=[_planned_image(image) for image in value.images],
        copy_bytes=value.copy_bytes,
        estimate_seconds=value.estimate_s(),
        max_unavailable=value.options.max_unavailable,
    )


def _planned_move(move: PlannedMove) -> pb.PlannedMove:
    rank = move.rank.name.lower().replace("_", "-")
    return pb.PlannedMove(
        uid=move.uid, pod=f"{move.namespace}/{move.name}", rank=rank, alone=move.alone, grace_seconds=move.grace_s
    )


def _stay(stay: Stay) -> pb.Stay:
    pod = f"{stay.namespace}/{stay.name}"
    return pb.Stay(uid=stay.uid, pod=pod, reason=stay.obstacle.value, why=stay.obstacle.why)


def _planned_image(image: PlannedImage) -> pb.PlannedImage:
    return pb.PlannedImage(
        id=image.id,
        names=image.names,
        size_bytes=image.size_bytes,
        pods=image.pods,
        present=image.present,
        missing_at_source=image.missing_at_source,
    )


def image_progress(value: ImageProgress) -> pb.ImageProgress:
    """Return the message of how far images are."""
    return pb.ImageProgress(
        images_done=value.images_done,
        images_total=value.images_total,
        bytes_done=value.bytes_done,
        bytes_total=value.bytes_total,
        current=value.current,
        seconds=value.seconds,
    )


def migration(progress: Progress) -> pb.Migration:
    """Return the message of a migration as it is now, an empty one when there was none."""
    run = progress.run
    if run is None:
        return pb.Migration()
    return pb.Migration(
        id=run.id,
        source=run.source,
        target=run.target,
        state=run.state.value,
        ended=run.state.ended and not any(move.state.in_flight for move in progress.moves),
        reason=run.reason,
        waiting=progress.waiting,
        is_rollback=run.is_rollback,
        began_at_ns=run.began_ns,
        ended_at_ns=run.ended_ns,
        max_unavailable=run.options.plan.max_unavailable,
        images=image_progress(progress.images),
        moves=[_move(move) for move in progress.moves],
    )


def _move(move: Move) -> pb.Move:
    return pb.Move(
        uid=move.uid,
        pod=move.full_name,
        state=move.state.value,
        reason=move.reason,
        left_sandbox_id=move.left_sandbox_id,
        new_sandbox_id=move.new_sandbox_id,
        began_at_ns=move.began_ns,
        ended_at_ns=move.ended_ns,
    )


def finish_report(report: FinishReport) -> pb.FinishReport:
    """Return the message of a migration's end."""
    return pb.FinishReport(
        engine=report.engine,
        other=report.other,
        complete=report.complete,
        leftovers=[pb.Leftover(name=leftover.name, why=leftover.why) for leftover in report.leftovers],
        buried=report.buried,
        images=report.images,
        images_bytes=report.images_bytes,
    )
