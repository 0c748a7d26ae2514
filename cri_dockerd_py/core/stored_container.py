"""What the database keeps of a container, and a container completed by it."""

from __future__ import annotations

from dataclasses import replace

from cri_dockerd_py.model.container import ContainerRecord, ContainerState
from cri_dockerd_py.store.records import StoredContainer


def stored(record: ContainerRecord) -> StoredContainer:
    """Return the row of a container."""
    return StoredContainer(
        id=record.id,
        sandbox_id=record.sandbox_id,
        engine=record.engine,
        spec=record.spec,
        resources=record.resources,
        image_id=record.image_id,
        image_ref=record.image_ref,
        image_name=record.image_name,
        stop_signal=record.stop_signal,
        user=record.user,
        created_at_ns=record.created_at_ns,
        started_at_ns=record.started_at_ns,
        finished_at_ns=record.finished_at_ns,
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
        log_path=record.log_path,
    )


def completed(record: ContainerRecord, row: StoredContainer) -> ContainerRecord:
    """Return the engine's record with what only we know, and with what has been told of it before."""
    record = replace(
        record,
        spec=row.spec,
        resources=row.resources,
        image_id=row.image_id,
        image_ref=row.image_ref,
        image_name=row.image_name,
        stop_signal=row.stop_signal or record.stop_signal,
        user=row.user,
        created_at_ns=row.created_at_ns or record.created_at_ns,
        started_at_ns=row.started_at_ns or record.started_at_ns,
    )
    if not row.finished_at_ns:
        return record
    return replace(
        record,
        state=ContainerState.EXITED,
        pid=0,
        started_at_ns=row.started_at_ns,
        finished_at_ns=row.finished_at_ns,
        exit_code=row.exit_code,
        reason=row.reason,
        message=row.message,
    )


def as_record(row: StoredContainer) -> ContainerRecord:
    """Return what a row alone tells of a container: one that was started and has not ended is taken to run."""
    if row.finished_at_ns:
        state = ContainerState.EXITED
    else:
        state = ContainerState.RUNNING if row.started_at_ns else ContainerState.CREATED
    return ContainerRecord(
        id=row.id,
        sandbox_id=row.sandbox_id,
        spec=row.spec,
        state=state,
        created_at_ns=row.created_at_ns,
        engine=row.engine,
        image_id=row.image_id,
        image_ref=row.image_ref,
        image_name=row.image_name,
        log_path=row.log_path,
        started_at_ns=row.started_at_ns,
        finished_at_ns=row.finished_at_ns,
        exit_code=row.exit_code,
        reason=row.reason,
        message=row.message,
        stop_signal=row.stop_signal,
        user=row.user,
        resources=row.resources,
    )
