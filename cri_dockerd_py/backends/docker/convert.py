"""Docker's inspect documents as sandbox and container records (pure)."""

from __future__ import annotations

import calendar
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cri_dockerd_py.backends.docker import labels as keys
from cri_dockerd_py.backends.docker.facts import DaemonFacts
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
from cri_dockerd_py.model.sandbox import (
    PodMetadata,
    PortMapping,
    Protocol,
    SandboxRecord,
    SandboxSpec,
    SandboxState,
)
from cri_dockerd_py.model.security import (
    Capabilities,
    ContainerSecurity,
    NamespaceMode,
    NamespaceOptions,
    SandboxSecurity,
)
from cri_dockerd_py.model.signals import parse_signal

Document = Mapping[str, Any]
FindImage = Callable[[str], ImageRecord | None]

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_PROPAGATION = {"rshared": Propagation.BIDIRECTIONAL, "rslave": Propagation.HOST_TO_CONTAINER}
_SHORT_ID_LENGTH = 12
_START_FAILED = "ContainerCannotRun"
_PODS_LOG_ROOT = "/var/log/pods"


class NotOursError(ValueError):
    """The object carries our labels, yet neither its name nor its labels say whose it is."""


def time_ns(text: object) -> int:
    """Return nanoseconds since the epoch of RFC 3339 text, 0 for Docker's zero time and for what is no time."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return 0
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if year < 1970:
        return 0
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "").ljust(9, "0"))


def docker_type(document: Document) -> str:
    """Return the value of the type label, "" for what is not ours."""
    return str(((document.get("Config") or {}).get("Labels") or {}).get(keys.TYPE) or "")


# --- sandboxes


def sandbox_record(document: Document, facts: DaemonFacts, engine: str) -> SandboxRecord:
    """Return the sandbox, as far as Docker knows it."""
    state = document["State"]
    running = bool(state.get("Running"))
    return SandboxRecord(
        id=str(document["Id"]),
        spec=_sandbox_spec(document, facts),
        state=SandboxState.READY if running else SandboxState.NOTREADY,
        created_at_ns=time_ns(document.get("Created")),
        engine=engine,
        pid=int(state.get("Pid") or 0) if running else 0,
    )


def _sandbox_spec(document: Document, facts: DaemonFacts) -> SandboxSpec:
    config, host = document["Config"], document["HostConfig"]
    labels, annotations = split_labels(config.get("Labels") or {})
    metadata = _pod_metadata(document, labels)
    hostname = str(config.get("Hostname") or "")
    namespaces = NamespaceOptions(
        network=_node_or(host.get("NetworkMode"), NamespaceMode.POD),
        pid=_node_or(host.get("PidMode"), NamespaceMode.CONTAINER),
        ipc=_node_or(host.get("IpcMode"), NamespaceMode.POD),
    )
    # Docker fills in the node's name, or the beginning of the id, where none was given.
    own_hostname = namespaces.network is NamespaceMode.NODE or str(document["Id"])[:_SHORT_ID_LENGTH] == hostname
    uid, gid = _user_ids(config.get("User"))
    return SandboxSpec(
        metadata=metadata,
        hostname="" if own_hostname else hostname,
        log_directory=posixpath.join(_PODS_LOG_ROOT, f"{metadata.namespace}_{metadata.name}_{metadata.uid}"),
        port_mappings=tuple(_port_mappings(host.get("PortBindings") or {})),
        labels=labels,
        annotations=annotations,
        cgroup_parent=str(host.get("CgroupParent") or ""),
        sysctls=dict(host.get("Sysctls") or {}),
        security=SandboxSecurity(
            namespaces=namespaces,
            run_as_user=uid,
            run_as_group=gid,
            readonly_rootfs=bool(host.get("ReadonlyRootfs")),
            supplemental_groups=_groups(host.get("GroupAdd")),
            privileged=bool(host.get("Privileged")),
        ),
        runtime_handler=facts.handler_of(str(host.get("Runtime") or facts.default_runtime)),
    )


def _pod_metadata(document: Document, labels: Mapping[str, str]) -> PodMetadata:
    """Return the identity from the name; from the labels where an underscore has made the name ambiguous."""
    name = str(document.get("Name") or "")
    parsed = parse_name(name)
    if parsed is not None:
        return parsed.sandbox_metadata
    pod, uid, namespace = (labels.get(key, "") for key in (keys.POD_NAME, keys.POD_UID, keys.POD_NAMESPACE))
    if not (pod and uid and namespace):
        raise NotOursError(f"container {document['Id']} is labelled as a pod and has no pod's name: {name!r}")
    return PodMetadata(pod, uid, namespace, _attempt_of(name))


def _attempt_of(name: str) -> int:
    last = name.rpartition("_")[2]
    return int(last) if last.isascii() and last.isdigit() else 0


def _node_or(mode: object, other: NamespaceMode) -> NamespaceMode:
    return NamespaceMode.NODE if mode == "host" else other


def _port_mappings(bindings: Mapping[str, Any]) -> Iterator[PortMapping]:
    for port, targets in bindings.items():
        number, _, name = port.partition("/")
        protocol = Protocol.__members__.get(name.upper(), Protocol.TCP)
        for target in targets or ():
            host_port = str(target.get("HostPort") or "")
            if number.isdecimal() and host_port.isdecimal():
                yield PortMapping(protocol, int(number), int(host_port), str(target.get("HostIp") or ""))


# --- containers


def container_record(document: Document, find_image: FindImage, engine: str) -> ContainerRecord:
    """Return the container, as far as Docker knows it."""
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
        **_state_fields(document),
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


def _state_fields(document: Document) -> dict[str, Any]:
    state = document["State"]
    exit_code = int(state.get("ExitCode") or 0)
    started, finished = time_ns(state.get("StartedAt")), time_ns(state.get("FinishedAt"))
    if state.get("Running"):
        return {"state": ContainerState.RUNNING, "started_at_ns": started, "pid": int(state.get("Pid") or 0)}
    message = str(state.get("Error") or "")
    if finished and state.get("Status") != "created":
        return {
            "state": ContainerState.EXITED,
            "started_at_ns": started,
            "finished_at_ns": max(finished, started),
            "exit_code": exit_code,
            "reason": exit_reason(exit_code, oom_killed=bool(state.get("OOMKilled"))),
            "message": message,
        }
    if exit_code or state.get("Status") in ("dead", "removing"):
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
    return ContainerMetadata(labels[keys.CONTAINER_NAME], _attempt_of(name))


def _relative_log_path(docker_labels: Mapping[str, str]) -> str:
    """Return `<container>/<attempt>.log`: kubelet's log paths are two levels below the pod's log directory."""
    directory, name = posixpath.split(docker_labels.get(keys.LOG_PATH) or "")
    return posixpath.join(posixpath.basename(directory), name) if name else ""


def _mounts(entries: Any) -> Iterator[Mount]:
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
    uid, gid = _user_ids(document["Config"].get("User"))
    options = host.get("SecurityOpt") or ()
    return ContainerSecurity(
        namespaces=NamespaceOptions(
            network=_node_or(host.get("UTSMode"), NamespaceMode.POD),
            pid=_pid_mode(document),
        ),
        capabilities=Capabilities(tuple(host.get("CapAdd") or ()), tuple(host.get("CapDrop") or ())),
        privileged=bool(host.get("Privileged")),
        run_as_user=uid,
        run_as_group=gid,
        readonly_rootfs=bool(host.get("ReadonlyRootfs")),
        supplemental_groups=_groups(host.get("GroupAdd")),
        no_new_privs=any(str(option).startswith("no-new-privileges") for option in options),
        masked_paths=tuple(host.get("MaskedPaths") or ()),
        readonly_paths=tuple(host.get("ReadonlyPaths") or ()),
    )


def _pid_mode(document: Document) -> NamespaceMode:
    mode = str(document["HostConfig"].get("PidMode") or "")
    if not mode.startswith("container:"):
        return _node_or(mode, NamespaceMode.CONTAINER)
    sandbox_id = str((document["Config"].get("Labels") or {}).get(keys.SANDBOX_ID) or "")
    return NamespaceMode.POD if mode == f"container:{sandbox_id}" else NamespaceMode.TARGET


def _user_ids(user: object) -> tuple[int | None, int | None]:
    """Return the numbers in Config.User; a name alone is in the image and cannot be told here."""
    name, _, group = str(user or "").partition(":")
    if not name.isdecimal():
        return None, None
    return int(name), int(group) if group.isdecimal() else None


def _groups(texts: Any) -> tuple[int, ...]:
    return tuple(int(text) for text in texts or () if str(text).isdecimal())
