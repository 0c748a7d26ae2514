"""Inspect documents of Docker as records, labels both ways, and facts about the daemon."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.backends.docker.container_convert import container_record, shown_image
from cri_dockerd_py.backends.docker.convert import NotOursError, time_ns
from cri_dockerd_py.backends.docker.facts import read_facts
from cri_dockerd_py.backends.docker.labels import container_labels, sandbox_labels, split_labels
from cri_dockerd_py.backends.docker.sandbox_convert import sandbox_record
from cri_dockerd_py.model.container import ContainerState, Mount, Propagation
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.model.sandbox import PodMetadata, PortMapping, Protocol, SandboxState
from cri_dockerd_py.model.security import NamespaceMode
from tests.backends.docker_values import CONTAINER_ID, FACTS, IMAGE_ID, SANDBOX_ID

ZERO = "0001-01-01T00:00:00Z"
TEXTS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4)


def _document(object_id: str, name: str, labels: dict[str, str], **state: Any) -> dict[str, Any]:
    return {
        "Id": object_id,
        "Name": f"/{name}",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "Image": IMAGE_ID,
        "State": {
            "Status": "running",
            "Running": True,
            "Pid": 42,
            "ExitCode": 0,
            "Error": "",
            "OOMKilled": False,
            "StartedAt": "2026-01-02T03:04:06Z",
            "FinishedAt": ZERO,
        }
        | state,
        "Config": {"Labels": labels, "Hostname": object_id[:12], "Image": "busybox", "User": "1000:3000"},
        "HostConfig": {"NetworkMode": "none", "IpcMode": "shareable", "PidMode": "", "Runtime": "runc"},
        "Mounts": [],
    }


def _sandbox(**state: Any) -> dict[str, Any]:
    return _document(SANDBOX_ID, "k8s_POD_web_prod_u1_2", sandbox_labels({"a": ""}, {"b": "c"}), **state)


def _container(**state: Any) -> dict[str, Any]:
    labels = container_labels({"a": "1"}, {}, sandbox_id=SANDBOX_ID, log_path="/pods/x/app/0.log")
    return _document(CONTAINER_ID, "k8s_app_web_prod_u1_5", labels, **state)


def _no_image(image_id: str) -> ImageRecord | None:
    return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1970-01-01T00:00:00-00:30", 1_800_000_000_000),
        (ZERO, 0),
        ("", 0),
        (None, 0),
        ("soon", 0),
    ],
)
def test_times(text: str | None, expected: int) -> None:
    assert time_ns(text) == expected


@given(TEXTS, TEXTS)
def test_labels_and_annotations_come_back(labels: dict[str, str], annotations: dict[str, str]) -> None:
    labels = {key: value for key, value in labels.items() if not key.startswith("annotation.")}
    assert split_labels(sandbox_labels(labels, annotations)) == (labels, annotations)
    of_container = container_labels(labels, annotations, sandbox_id="s", log_path="")
    assert split_labels(of_container) == (labels, annotations)


def test_sandbox() -> None:
    document = _sandbox()
    document["HostConfig"] |= {
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": None, "9/x": [{"HostPort": "y"}]},
        "CgroupParent": "kubepods-podu1.slice",
        "Sysctls": {"a.b": "1"},
        "Privileged": True,
    }
    record = sandbox_record(document, FACTS, "docker")
    assert (record.id, record.state, record.pid) == (SANDBOX_ID, SandboxState.READY, 42)
    assert record.created_at_ns == time_ns("2026-01-02T03:04:05.123456789Z")
    spec = record.spec
    assert spec.metadata == PodMetadata("web", "u1", "prod", 2)
    assert (spec.labels, spec.annotations) == ({"a": ""}, {"b": "c"})
    assert spec.port_mappings == (PortMapping(Protocol.TCP, 80, 8080),)
    assert (spec.hostname, spec.runtime_handler, spec.cgroup_parent) == ("", "", "kubepods-podu1.slice")
    assert spec.log_directory == "/var/log/pods/prod_web_u1"
    assert spec.security.privileged
    assert (spec.security.namespaces.network, spec.security.namespaces.pid) == (
        NamespaceMode.POD,
        NamespaceMode.CONTAINER,
    )


def test_sandbox_on_the_nodes_network_with_a_handler() -> None:
    document = _sandbox(Running=False, Status="exited", Pid=0)
    document["HostConfig"] |= {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "Runtime": "crun"}
    document["Config"]["Hostname"] = "node-1"
    record = sandbox_record(document, FACTS, "docker")
    assert (record.state, record.pid) == (SandboxState.NOTREADY, 0)
    assert record.spec.host_network
    assert (record.spec.hostname, record.spec.runtime_handler) == ("", "crun")


def test_names_with_underscores_fall_back_to_labels() -> None:
    document = _sandbox()
    document["Name"] = "/k8s_POD_we_b_prod_u1_7"
    with pytest.raises(NotOursError):
        sandbox_record(document, FACTS, "docker")
    document["Config"]["Labels"] |= {
        "io.kubernetes.pod.name": "we_b",
        "io.kubernetes.pod.namespace": "prod",
        "io.kubernetes.pod.uid": "u1",
    }
    assert sandbox_record(document, FACTS, "docker").spec.metadata == PodMetadata("we_b", "u1", "prod", 7)
    container = _container()
    container["Name"] = "/k8s_a_b_web_prod_u1_5"
    with pytest.raises(NotOursError):
        container_record(container, _no_image, "docker")
    container["Config"]["Labels"]["io.kubernetes.container.name"] = "a_b"
    metadata = container_record(container, _no_image, "docker").spec.metadata
    assert (metadata.name, metadata.attempt) == ("a_b", 5)


START, END = "2026-01-02T03:04:06Z", "2026-01-02T03:04:07Z"


@pytest.mark.behaviour("CST-06", "CST-08", "CST-16", "LCT-08")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, (ContainerState.RUNNING, 0, "", START, ZERO, 42)),
        ({"Status": "paused", "Paused": True}, (ContainerState.RUNNING, 0, "", START, ZERO, 42)),
        (
            {"Status": "running", "FinishedAt": "2026-01-01T00:00:00Z"},
            (ContainerState.RUNNING, 0, "", START, ZERO, 42),
        ),
        (
            {"Running": False, "Status": "exited", "FinishedAt": END},
            (ContainerState.EXITED, 0, "Completed", START, END, 0),
        ),
        (
            {"Running": False, "Status": "exited", "FinishedAt": END, "ExitCode": 3},
            (ContainerState.EXITED, 3, "Error", START, END, 0),
        ),
        (
            {"Running": False, "Status": "exited", "FinishedAt": END, "ExitCode": 137, "OOMKilled": True},
            (ContainerState.EXITED, 137, "OOMKilled", START, END, 0),
        ),
        (
            {"Running": False, "Status": "dead", "FinishedAt": END, "ExitCode": 1},
            (ContainerState.EXITED, 1, "Error", START, END, 0),
        ),
        (
            {"Running": False, "Status": "created", "StartedAt": ZERO},
            (ContainerState.CREATED, 0, "", ZERO, ZERO, 0),
        ),
        (
            {"Running": False, "Status": "created", "StartedAt": ZERO, "ExitCode": 127},
            (ContainerState.EXITED, 127, "ContainerCannotRun", ZERO, "2026-01-02T03:04:05.123456789Z", 0),
        ),
        (
            {
                "Running": False,
                "Status": "created",
                "StartedAt": ZERO,
                "ExitCode": 128,
                "Error": "failed to initialize logging driver: error creating logger: connection refused",
            },
            (ContainerState.CREATED, 0, "", ZERO, ZERO, 0),
        ),
        (
            {
                "Running": False,
                "Status": "created",
                "StartedAt": ZERO,
                "ExitCode": 128,
                "Error": "id already in use",
            },
            (ContainerState.CREATED, 0, "", ZERO, ZERO, 0),
        ),
    ],
)
def test_container_states(state: dict[str, Any], expected: tuple[ContainerState, int, str, str, str, int]) -> None:
    record = container_record(_container(**state), _no_image, "docker")
    kind, exit_code, reason, started, finished, pid = expected
    assert (record.state, record.exit_code, record.reason, record.pid) == (kind, exit_code, reason, pid)
    assert (record.started_at_ns, record.finished_at_ns) == (time_ns(started), time_ns(finished))


def test_container_of_another_shim() -> None:
    document = _container()
    document["Config"] |= {"Tty": True, "Entrypoint": ["a"], "Cmd": ["b"], "StopSignal": "SIGUSR1"}
    document["HostConfig"] |= {
        "PidMode": f"container:{SANDBOX_ID}",
        "Memory": 1 << 30,
        "CpuQuota": 5,
        "GroupAdd": ["7", "staff"],
    }
    document["Mounts"] = [
        {"Type": "bind", "Source": "/h", "Destination": "/c", "RW": False, "Propagation": "rslave"},
        {"Type": "volume", "Source": "/var/lib/docker/volumes/x", "Destination": "/v", "RW": True},
    ]
    record = container_record(document, _no_image, "docker")
    assert record.sandbox_id == SANDBOX_ID
    assert (record.log_path, record.spec.log_path) == ("/pods/x/app/0.log", "app/0.log")
    assert record.spec.mounts == (Mount("/c", "/h", True, propagation=Propagation.HOST_TO_CONTAINER),)
    assert record.spec.security.namespaces.pid is NamespaceMode.POD
    assert record.spec.security.supplemental_groups == (7,)
    assert (record.spec.security.run_as_user, record.spec.security.run_as_group) == (1000, 3000)
    assert (record.resources.memory_limit_bytes, record.resources.cpu_quota_us) == (1 << 30, 5)
    assert (record.spec.command, record.spec.args, record.spec.tty) == (("a",), ("b",), True)
    assert (record.image_ref, record.image_name, record.image_id) == (f"docker://{IMAGE_ID}", "busybox", IMAGE_ID)


@pytest.mark.behaviour("CST-03")
def test_images_are_shown_as_users_of_docker_know_them() -> None:
    digest = "docker.io/library/busybox@sha256:" + "ab" * 32
    image = ImageRecord(IMAGE_ID, ("docker.io/library/busybox:1",), (digest,), 1)
    assert shown_image(image, IMAGE_ID, "x") == (
        "docker-pullable://busybox@sha256:" + "ab" * 32,
        "docker.io/library/busybox:1",
    )
    assert shown_image(ImageRecord(IMAGE_ID, (), (), 1), IMAGE_ID, "x") == (f"docker://{IMAGE_ID}", IMAGE_ID)


@given(st.data())
def test_damaged_documents_never_escape_as_other_errors(data: st.DataObject) -> None:
    """The callers translate exactly these errors."""
    document = copy.deepcopy(data.draw(st.sampled_from([_sandbox(), _container()])))
    part = data.draw(st.sampled_from([document, document["State"], document["Config"], document["HostConfig"]]))
    rubbish = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), TEXTS))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(rubbish)
    for convert in (
        lambda: sandbox_record(document, FACTS, "docker"),
        lambda: container_record(document, _no_image, "docker"),
    ):
        try:
            convert()
        except (KeyError, TypeError, ValueError, AttributeError):
            continue


@pytest.mark.behaviour("STA-15")
def test_facts() -> None:
    info = {
        "ServerVersion": "25.0.1",
        "CgroupDriver": "systemd",
        "CgroupVersion": "2",
        "KernelVersion": "6.1.0-1-amd64",
        "DefaultRuntime": "runc",
        "CDISpecDirs": ["/etc/cdi"],
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "Runtimes": {
            "runc": {"status": {"org.opencontainers.runtime-spec.features": '{"mountOptions":["ro","rro"]}'}},
            "io.containerd.runc.v2": {"path": "runc"},
            "kata": {"status": {"org.opencontainers.runtime-spec.features": "{"}},
        },
    }
    facts = read_facts(info, (1, 44))
    shown = facts.engine_info("docker")
    assert [(handler.name, handler.recursive_read_only_mounts) for handler in shown.runtime_handlers] == [
        ("", True),
        ("kata", False),
        ("runc", True),
    ]
    assert (shown.cgroup_driver, shown.cgroup_version, shown.api_version) == (CgroupDriver.SYSTEMD, 2, "1.44")
    assert (facts.cdi, facts.has("seccomp"), facts.has("selinux")) == (True, True, False)
    assert not read_facts(info | {"KernelVersion": "5.10.0"}, (1, 44)).recursive_read_only("")
    assert not read_facts(info, (1, 43)).recursive_read_only("")
    assert not read_facts(info, (1, 43)).cdi
    empty = read_facts({}, (1, 41))
    assert (empty.cgroup_driver, empty.cgroup_version) == (CgroupDriver.CGROUPFS, 1)
    assert [handler.name for handler in empty.engine_info("docker").runtime_handlers] == [""]
