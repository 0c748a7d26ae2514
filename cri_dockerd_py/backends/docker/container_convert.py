"""Docker's inspect documents as container records (pure)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.convert import (
    Document,
    NotOursError,
    attempt_of,
    group_ids,
    node_or,
    time_ns,
    user_ids,
)
from cri_dockerd_py.backends.docker.cut_off_starts import is_left_of_a_start
from cri_dockerd_py.backends.docker.labels import split_labels
from cri_dockerd_py.backends.docker.resources import resources_of
from cri_dockerd_py.model.container import (
    ContainerMetadata,
    ContainerRecord,
    ContainerSpec,
    ContainerState,
    ImageSpec,
    Mount,
    Propagation,
    exit_reason,
)
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import parse_reference
from cri_dockerd_py.model.names import parse_name
from cri_dockerd_py.model.security import Capabilities, ContainerSecurity, NamespaceMode, NamespaceOptions
from cri_dockerd_py.model.signals import parse_signal

FindImage = Callable[[str], ImageRecord | None]

_PROPAGATION = {"rshared": Propagation.BIDIRECTIONAL, "rslave": Propagation.HOST_TO_CONTAINER}
_START_FAILED = "ContainerCannotRun"
#: What Docker says when the log driver, which is this service, did not answer: nothing of the container has run.
_LOG_DRIVER_AWAY = "failed to initialize logging driver"


def container_record(
    document: Document, find_image: FindImage, engine: str, *, oom_killed: bool = False
) -> ContainerRecord:
    """Return the container, as far as Docker knows it; `oom_killed` is what the kernel has told."""
    config = document["Config"]
    docker_labels = config.get("Labels") or {}
    image_id = str(document.get("Image") or "")
    image = find_image(image_id)
    image_ref, image_name = shown_image(image, image_id, str(config.get("Image") or image_id))
    return ContainerRecord(
        id=str(document["Id"]),
        sandbox_id=str(docker_labels.get(keys.SANDBOX_ID) or ""),
        spec=_container_spec(document),
        created_at_ns=time_ns(document.get("Created")),
        engine=engine,
        image_id=image_id,
        image_ref=image_ref,
        image_name=image_name,
        log_path=str(docker_labels.get(keys.LOG_PATH) or ""),
        stop_signal=parse_signal(str(config.get("StopSignal") or "")),
        resources=resources_of(document["HostConfig"]),
        writable_layer_path=writable_layer_path(document),
        **_state_fields(document, oom_killed),
    )


def shown_image(image: ImageRecord | None, image_id: str, otherwise: str) -> tuple[str, str]:
    """Return (image_ref, image name) for status, in the form that users of Docker are used to (CST-03)."""
    if image is None:
        return f"docker://{image_id}", otherwise
    name = image.repo_tags[0] if image.repo_tags else image.id
    if image.repo_digests:
        return f"docker-pullable://{parse_reference(image.repo_digests[0]).familiar}", name
    return f"docker://{image.id}", name


def writable_layer_path(document: Document) -> str:
    """Return the directory of the container's own layer, "" where the storage has no such directory."""
    data = (document.get("GraphDriver") or {}).get("Data") or {}
    return str(data.get("UpperDir") or "")


def _state_fields(document: Document, oom_killed: bool) -> dict[str, Any]:
    state = document["State"]
    exit_code = int(state.get("ExitCode") or 0)
    started, finished = time_ns(state.get("StartedAt")), time_ns(state.get("FinishedAt"))
    if state.get("Running"):
        return {"state": ContainerState.RUNNING, "started_at_ns": started, "pid": int(state.get("Pid") or 0)}
    message = str(state.get("Error") or "")
    oom_killed = bool(state.get("OOMKilled")) or (oom_killed and exit_code != 0)
    if finished and state.get("Status") != "created":
        return {
            "state": ContainerState.EXITED,
            "started_at_ns": started,
            "finished_at_ns": max(finished, started),
            "exit_code": exit_code,
            "reason": exit_reason(exit_code, oom_killed=oom_killed),
            "message": message,
        }
    was_refused = state.get("Status") == "created" and (
        message.startswith(_LOG_DRIVER_AWAY) or is_left_of_a_start(message)
    )
    if (exit_code and not was_refused) or state.get("Status") in ("dead", "removing"):
        return {
            "state": ContainerState.EXITED,
            "finished_at_ns": time_ns(document.get("Created")),
            "exit_code": exit_code,
            "reason": _START_FAILED,
            "message": message,
        }
    return {"state": ContainerState.CREATED}


def _container_spec(document: Document) -> ContainerSpec:
    config = document["Config"]
    labels, annotations = split_labels(config.get("Labels") or {})
    return ContainerSpec(
        metadata=_container_metadata(document, labels),
        image=ImageSpec(str(config.get("Image") or "")),
        command=tuple(config.get("Entrypoint") or ()),
        args=tuple(config.get("Cmd") or ()),
        working_dir=str(config.get("WorkingDir") or ""),
        mounts=tuple(_mounts(document.get("Mounts") or ())),
        labels=labels,
        annotations=annotations,
        log_path=_relative_log_path(config.get("Labels") or {}),
        stdin=bool(config.get("OpenStdin")),
        stdin_once=bool(config.get("StdinOnce")),
        tty=bool(config.get("Tty")),
        resources=resources_of(document["HostConfig"]),
        security=_container_security(document),
    )


def _container_metadata(document: Document, labels: Mapping[str, str]) -> ContainerMetadata:
    name = str(document.get("Name") or "")
    parsed = parse_name(name)
    if parsed is not None:
        return parsed.container_metadata
    if not labels.get(keys.CONTAINER_NAME):
        raise NotOursError(f"container {document['Id']} is labelled as a pod's and has no such name: {name!r}")
    return ContainerMetadata(labels[keys.CONTAINER_NAME], attempt_of(name))


def _relative_log_path(docker_labels: Mapping[str, str]) -> str:
    """Return `<container>/<attempt>.log`: kubelet's log paths are two levels below the pod's log directory."""
    directory, name = posixpath.split(docker_labels.get(keys.LOG_PATH) or "")
    return posixpath.join(posixpath.basename(directory), name) if name else ""


def _mounts(entries: Iterable[Document]) -> Iterator[Mount]:
    """Yield the mounts that were asked for: anonymous volumes are the image's wish."""
    for entry in entries:
        if entry.get("Type", "bind") == "bind":
            yield Mount(
                container_path=str(entry.get("Destination") or ""),
                host_path=str(entry.get("Source") or ""),
                readonly=not entry.get("RW", True),
                propagation=_PROPAGATION.get(str(entry.get("Propagation") or ""), Propagation.PRIVATE),
            )
        elif entry.get("Type") == "image":
            image_id = str(entry.get("Source") or "")
            yield Mount(
                str(entry.get("Destination") or ""), readonly=True, image=ImageSpec(image_id, image_ref=image_id)
            )


def _container_security(document: Document) -> ContainerSecurity:
    host = document["HostConfig"]
    uid, gid = user_ids(document["Config"].get("User"))
    options = host.get("SecurityOpt") or ()
    return ContainerSecurity(
        namespaces=NamespaceOptions(
            network=node_or(host.get("UTSMode"), NamespaceMode.POD),
            pid=_pid_mode(document),
        ),
        capabilities=Capabilities(tuple(host.get("CapAdd") or ()), tuple(host.get("CapDrop") or ())),
        privileged=bool(host.get("Privileged")),
        run_as_user=uid,
        run_as_group=gid,
        readonly_rootfs=bool(host.get("ReadonlyRootfs")),
        supplemental_groups=group_ids(host.get("GroupAdd")),
        no_new_privs=any(str(option).startswith("no-new-privileges") for option in options),
        masked_paths=tuple(host.get("MaskedPaths") or ()),
        readonly_paths=tuple(host.get("ReadonlyPaths") or ()),
    )


def _pid_mode(document: Document) -> NamespaceMode:
    mode = str(document["HostConfig"].get("PidMode") or "")
    if not mode.startswith("container:"):
        return node_or(mode, NamespaceMode.CONTAINER)
    sandbox_id = str((document["Config"].get("Labels") or {}).get(keys.SANDBOX_ID) or "")
    return NamespaceMode.POD if mode == f"container:{sandbox_id}" else NamespaceMode.TARGET
