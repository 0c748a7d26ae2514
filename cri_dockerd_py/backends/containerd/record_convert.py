"""Containerd's records and tasks as sandbox and container records (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends.containerd import labels
from cri_dockerd_py.backends.containerd.objects import read_container, read_sandbox
from cri_dockerd_py.backends.containerd.status_file import ContainerStatus
from cri_dockerd_py.backends.containerd.tasks import RUNS, TaskInfo, TaskState, time_ns
from cri_dockerd_py.model.container import ContainerRecord, ContainerState, exit_reason
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxState
from cri_dockerd_py.model.signals import parse_signal

FindImage = Callable[[str], ImageRecord | None]
#: What is said of an end that nobody saw.
LOST_EXIT_CODE = 255
LOST_REASON = "Unknown"


def sandbox_record(record: Container, task: TaskInfo | None, engine: str) -> SandboxRecord:
    """Return the sandbox; NotOursError when the record cannot be read."""
    metadata = read_sandbox(record)
    runs = task is not None and task.state in RUNS
    return SandboxRecord(
        id=record.id,
        spec=metadata.spec,
        state=SandboxState.READY if runs else SandboxState.NOTREADY,
        created_at_ns=time_ns(record.created_at),
        engine=engine,
        pid=task.pid if task is not None and runs else 0,
        ips=metadata.ips,
        netns_path=metadata.netns_path,
    )


def container_record(
    record: Container,
    task: TaskInfo | None,
    status: ContainerStatus,
    find_image: FindImage,
    engine: str,
    layer_path: str = "",
) -> ContainerRecord:
    """Return the container; NotOursError when the record cannot be read."""
    metadata = read_container(record)
    image_ref, image_name = shown_image(find_image(metadata.image_id), metadata.image_id, metadata.spec.image.image)
    return ContainerRecord(
        id=record.id,
        sandbox_id=metadata.sandbox_id,
        spec=metadata.spec,
        created_at_ns=status.created_at_ns or time_ns(record.created_at),
        engine=engine,
        image_id=metadata.image_id,
        image_ref=image_ref,
        image_name=image_name,
        log_path=metadata.log_path,
        stop_signal=metadata.spec.stop_signal or parse_signal(metadata.stop_signal),
        resources=status.resources or metadata.spec.resources,
        writable_layer_path=layer_path or record.labels.get(labels.LAYER, ""),
        **_state_fields(task, status),
    )


def shown_image(image: ImageRecord | None, image_id: str, otherwise: str) -> tuple[str, str]:
    """Return (image_ref, image name) for status: a digest and a tag where there are any (CST-03)."""
    if image is None:
        return image_id, otherwise
    name = (image.repo_tags or image.repo_digests or (image.id,))[0]
    return (image.repo_digests or (image.id,))[0], name


def _state_fields(task: TaskInfo | None, status: ContainerStatus) -> dict[str, Any]:
    if status.finished_at_ns:
        return {
            "state": ContainerState.EXITED,
            "started_at_ns": status.started_at_ns,
            "finished_at_ns": status.finished_at_ns,
            "exit_code": status.exit_code,
            "reason": status.reason,
            "message": status.message,
        }
    if task is None:
        # Whoever finds a container that has lost its task puts its end on file first.
        return {"state": ContainerState.UNKNOWN if status.started_at_ns else ContainerState.CREATED}
    if task.state is TaskState.STOPPED:
        finished = max(task.exited_at_ns, status.started_at_ns)
        return {
            "state": ContainerState.EXITED,
            "started_at_ns": status.started_at_ns or status.created_at_ns,
            "finished_at_ns": finished or status.created_at_ns,
            "exit_code": task.exit_code,
            "reason": exit_reason(task.exit_code, oom_killed=False),
        }
    if task.state in RUNS:
        return {
            "state": ContainerState.RUNNING,
            "started_at_ns": status.started_at_ns or status.created_at_ns,
            "pid": task.pid,
        }
    unknown = task.state is TaskState.UNKNOWN
    return {"state": ContainerState.UNKNOWN if unknown else ContainerState.CREATED}
