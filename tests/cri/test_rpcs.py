"""Every RPC, under both package names."""

from __future__ import annotations

import json
import time

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py.core.events import ContainerEventType
from cri_dockerd_py.model.image import ImageRecord, RegistryAuth
from cri_dockerd_py.model.node import CgroupDriver, Condition
from tests.cri.calls import CallBook
from tests.cri.conftest import Edge, sandbox_config
from tests.cri.fake_node import IMAGE_ID

pytestmark = pytest.mark.usefixtures("package")


async def test_every_method_of_the_proto_answers(edge: Edge, package: str) -> None:
    for service in cri.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            path = f"/{package}.{service.name}/{method.name}"
            if method.name == "GetContainerEvents":
                continue
            if method.server_streaming:
                stream = edge.raw.unary_stream(path)(b"")
                assert all([isinstance(message, bytes) async for message in stream])
                code = await stream.code()
            else:
                code = await edge.raw.unary_unary(path)(b"").code()

            assert code in (
                grpc.StatusCode.OK,
                grpc.StatusCode.INVALID_ARGUMENT,
            ), f"{path} answered {code}"


async def test_an_unknown_method_is_unimplemented(edge: Edge, package: str) -> None:
    code = await edge.raw.unary_unary(f"/{package}.RuntimeService/CheckpointPod")(b"").code()

    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.behaviour("STA-01", "STA-02")
async def test_version(edge: Edge) -> None:
    answers = [await edge.runtime.Version(cri.VersionRequest(version=asked)) for asked in ("", "0.1.0", "v1")]

    expected = cri.VersionResponse(
        version="0.1.0", runtime_name="fake", runtime_version="1.2.3", runtime_api_version="v1"
    )
    assert answers == [expected] * 3


@pytest.mark.behaviour("STA-10", "STA-15", "STA-16", "STA-18")
async def test_status_follows_its_inputs(edge: Edge) -> None:
    before = await edge.runtime.Status(cri.StatusRequest())
    edge.node.status.known_conditions = (Condition("RuntimeReady", False, "EngineNotReady", "bad \udcff byte"),)
    after = await edge.runtime.Status(cri.StatusRequest())

    assert [(condition.type, condition.status) for condition in before.status.conditions] == [
        ("RuntimeReady", True),
        ("NetworkReady", True),
    ]
    assert [(handler.name, handler.features.recursive_read_only_mounts) for handler in before.runtime_handlers] == [
        ("", False),
        ("crun", True),
    ]
    assert before.features.supplemental_groups_policy
    assert not before.info
    [condition] = after.status.conditions
    assert (condition.status, condition.reason, condition.message) == (False, "EngineNotReady", "bad \\udcff byte")


@pytest.mark.behaviour("STA-18")
async def test_verbose_status_has_json(edge: Edge) -> None:
    answer = await edge.runtime.Status(cri.StatusRequest(verbose=True))

    assert json.loads(answer.info["config"]) == {"stateDir": "/run/fake"}
    assert len(answer.status.conditions) == 2


@pytest.mark.behaviour("STA-20")
async def test_runtime_config(edge: Edge) -> None:
    drivers = []
    for driver in (CgroupDriver.CGROUPFS, CgroupDriver.SYSTEMD):
        edge.node.status.driver = driver
        answer = await edge.runtime.RuntimeConfig(cri.RuntimeConfigRequest())
        assert answer.HasField("linux")
        drivers.append(answer.linux.cgroup_driver)

    assert drivers == [cri.CGROUPFS, cri.SYSTEMD]


@pytest.mark.behaviour("STA-22")
async def test_update_runtime_config(edge: Edge) -> None:
    for cidr in ("10.1.0.0/16, fd00::/64", ""):
        config = cri.RuntimeConfig(network_config=cri.NetworkConfig(pod_cidr=cidr))
        await edge.runtime.UpdateRuntimeConfig(cri.UpdateRuntimeConfigRequest(runtime_config=config))

    assert edge.node.status.pod_cidrs == ["10.1.0.0/16,fd00::/64", ""]


@pytest.mark.behaviour("SBS-02", "SBS-03", "LSB-01", "RUN-08", "NET-10", "NSP-01")
async def test_a_sandbox_in_status_and_list(edge: Edge) -> None:
    labels, annotations = {"app": "web", "empty": ""}, {"note": "ü\n"}
    userns = cri.UserNamespace(
        mode=cri.POD,
        uids=[cri.IDMapping(host_id=1000, container_id=0, length=65536)],
        gids=[cri.IDMapping(host_id=2000, container_id=0, length=65536)],
    )
    options = cri.NamespaceOption(pid=cri.CONTAINER, ipc=cri.NODE, userns_options=userns)
    linux = cri.LinuxPodSandboxConfig(security_context=cri.LinuxSandboxSecurityContext(namespace_options=options))
    pod_id = await edge.run_pod(labels=labels, annotations=annotations, linux=linux)

    answer = await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id[:13]))
    [item] = (await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items

    status = answer.status
    assert status.linux.namespaces.options == options
    assert (status.network.ip, [ip.ip for ip in status.network.additional_ips]) == ("10.1.0.9", ["fd00::9"])
    assert (status.id, status.metadata, status.state) == (pod_id, sandbox_config().metadata, cri.SANDBOX_READY)
    assert (dict(status.labels), dict(status.annotations)) == (labels, annotations)
    assert status.created_at > 0
    assert not answer.info
    for field in ("id", "metadata", "state", "created_at", "labels", "annotations", "runtime_handler"):
        assert getattr(item, field) == getattr(status, field), field


@pytest.mark.behaviour("EVT-10")
async def test_a_sandbox_status_has_its_containers(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)

    first = await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id))
    second = await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id))

    status = (await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))).status
    assert list(first.containers_statuses) == [status]
    assert status.created_at < first.timestamp < second.timestamp


@pytest.mark.behaviour("NSP-05", "NET-11", "NET-12")
async def test_the_network_of_a_pod_without_addresses(edge: Edge) -> None:
    options = cri.NamespaceOption(network=cri.NODE)
    linux = cri.LinuxPodSandboxConfig(security_context=cri.LinuxSandboxSecurityContext(namespace_options=options))
    host_pod = await edge.run_pod("host", linux=linux)
    stopped_pod = await edge.run_pod("stopped")
    await edge.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=stopped_pod))

    for pod_id in (host_pod, stopped_pod):
        answer = await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id))
        assert answer.status.network == cri.PodSandboxNetworkStatus()


@pytest.mark.behaviour("SBS-07", "CST-17")
async def test_verbose_statuses(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)

    pod = await edge.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod_id, verbose=True))
    container = await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id, verbose=True))

    assert json.loads(pod.info["info"]) == {"pid": 7}
    assert json.loads(container.info["info"]) == {"pid": 8, "odd": "\udc80"}
    assert (pod.status.id, container.status.id) == (pod_id, container_id)


@pytest.mark.behaviour("LSB-02", "LSB-03", "LSB-04", "LSB-05", "LSB-06", "LSB-10")
async def test_sandbox_filters(edge: Edge) -> None:
    web = await edge.run_pod("web", labels={"app": "web", "tier": "front"})
    db = await edge.run_pod("db", labels={"app": "db", "tier": "back"})
    await edge.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=db))

    ready = cri.PodSandboxStateValue(state=cri.SANDBOX_READY)
    cases: tuple[tuple[cri.PodSandboxFilter, set[str]], ...] = (
        (cri.PodSandboxFilter(), {web, db}),
        (cri.PodSandboxFilter(id=web), {web}),
        (cri.PodSandboxFilter(id=db[:8]), {db}),
        (cri.PodSandboxFilter(id="nothing"), set()),
        (cri.PodSandboxFilter(state=ready), {web}),
        (cri.PodSandboxFilter(state=ready, label_selector={"app": "db"}), set()),
        (cri.PodSandboxFilter(label_selector={"app": "db", "tier": "back"}), {db}),
    )
    for given, expected in cases:
        listed = await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest(filter=given))
        streamed = [m async for m in edge.runtime.StreamPodSandboxes(cri.StreamPodSandboxesRequest(filter=given))]

        assert {item.id for item in listed.items} == expected
        assert [item for message in streamed for item in message.pod_sandboxes] == list(listed.items)


@pytest.mark.behaviour(
    "CST-02", "CST-03", "CST-12", "CST-13", "CST-15", "CST-16", "LCT-01", "LCT-03", "MNT-10", "MNT-15"
)
async def test_a_container_in_status_and_list(edge: Edge) -> None:
    image_mount = cri.ImageSpec(image=IMAGE_ID, annotations={"a": "b"}, image_ref=IMAGE_ID)
    mapping = [cri.IDMapping(host_id=5, container_id=0, length=10)]
    mounts = [
        cri.Mount(container_path="/b/../b", host_path="/h//x/", readonly=True, recursive_read_only=True),
        cri.Mount(container_path="/a", host_path="/h", selinux_relabel=True, propagation=cri.PROPAGATION_BIDIRECTIONAL),
        cri.Mount(container_path="/i", image=image_mount, image_sub_path="etc", readonly=True),
        cri.Mount(container_path="/m", host_path="/m", uidMappings=mapping, gidMappings=mapping),
    ]
    resources = cri.LinuxContainerResources(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=512,
        memory_limit_in_bytes=1 << 26,
        memory_swap_limit_in_bytes=1 << 26,
        oom_score_adj=-997,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=0)],
        unified={"memory.high": "1000"},
    )
    pod_id = await edge.run_pod()
    container_id = await edge.create(
        pod_id,
        labels={"app": "web"},
        annotations={"io.kubernetes.container.hash": "1"},
        mounts=mounts,
        stop_signal=cri.SIGUSR1,
        linux=cri.LinuxContainerConfig(resources=resources),
    )

    status = (await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))).status
    [item] = (await edge.runtime.ListContainers(cri.ListContainersRequest())).containers

    assert list(status.mounts) == mounts
    assert status.resources.linux == resources
    assert status.stop_signal == cri.SIGUSR1
    assert status.log_path == "/var/log/pods/web/app/2.log"
    assert (status.image.image, status.image.user_specified_image) == ("docker.io/library/busybox:latest", "busybox")
    assert status.image_ref == "docker.io/library/busybox@sha256:" + "cd" * 32
    assert (item.image.image, item.image_ref) == (IMAGE_ID, status.image_ref)
    assert (status.state, status.started_at, status.finished_at) == (cri.CONTAINER_CREATED, 0, 0)
    assert item.pod_sandbox_id == pod_id
    for field in ("id", "metadata", "state", "created_at", "labels", "annotations", "image_id"):
        assert getattr(item, field) == getattr(status, field), field


@pytest.mark.behaviour("LCT-04", "LCT-09")
async def test_container_filters(edge: Edge) -> None:
    pod, other = await edge.run_pod("web"), await edge.run_pod("db")
    created, running = await edge.create(pod, labels={"app": "x"}), await edge.start(other, labels={"app": "y"})

    cases: tuple[tuple[cri.ContainerFilter, set[str]], ...] = (
        (cri.ContainerFilter(), {created, running}),
        (cri.ContainerFilter(id=created[:10]), {created}),
        (cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_CREATED)), {created}),
        (cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)), {running}),
        (cri.ContainerFilter(pod_sandbox_id=other[:9]), {running}),
        (cri.ContainerFilter(pod_sandbox_id=other, label_selector={"app": "x"}), set()),
    )
    for given, expected in cases:
        listed = await edge.runtime.ListContainers(cri.ListContainersRequest(filter=given))
        streamed = [m async for m in edge.runtime.StreamContainers(cri.StreamContainersRequest(filter=given))]

        assert {item.id for item in listed.containers} == expected
        assert [item for message in streamed for item in message.containers] == list(listed.containers)


async def test_a_container_lives_and_dies(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)
    limits = cri.LinuxContainerResources(cpu_shares=77)
    update = cri.UpdateContainerResourcesRequest(container_id=container_id, linux=limits)
    await edge.runtime.UpdateContainerResources(update)
    await edge.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container_id))
    await edge.runtime.StopContainer(cri.StopContainerRequest(container_id=container_id, timeout=-5))

    status = (await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))).status
    await edge.runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container_id))
    await edge.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id))

    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 137, "Error")
    assert 0 < status.started_at <= status.finished_at
    assert status.resources.linux.cpu_shares == 77
    assert not (await edge.runtime.ListContainers(cri.ListContainersRequest())).containers
    assert not (await edge.runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items


@pytest.mark.behaviour("UPS-01")
async def test_pod_resources_are_handed_on(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    request = cri.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod_id, resources=cri.LinuxContainerResources(memory_limit_in_bytes=9)
    )
    await edge.runtime.UpdatePodSandboxResources(request)

    spec = edge.node.inventory.sandboxes[pod_id].spec
    assert spec.overhead is None
    assert spec.resources is not None
    assert spec.resources.memory_limit_bytes == 9


@pytest.mark.behaviour("EXS-02", "EXS-03")
async def test_exec_sync_returns_exact_bytes(edge: Edge) -> None:
    container_id = await edge.start(await edge.run_pod())

    answer = await edge.runtime.ExecSync(cri.ExecSyncRequest(container_id=container_id, cmd=["echo", "ü"], timeout=3))

    assert (answer.stdout, answer.stderr, answer.exit_code) == ("echo ü".encode(), b"\xff\0", 3)


@pytest.mark.behaviour("CST-08", "EXS-03")
async def test_a_negative_exit_code_that_an_engine_tells_without_its_sign(edge: Edge) -> None:
    container_id = await edge.start(await edge.run_pod())
    request = cri.ExecSyncRequest(container_id=container_id, cmd=["exit", str(2**32 - 1)])
    assert (await edge.runtime.ExecSync(request)).exit_code == -1

    edge.node.inventory.mark_exited(container_id, 2**32 - 2, time.time_ns())
    answer = await edge.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id))
    assert answer.status.exit_code == -2


async def test_streaming_urls(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)
    requests = (
        (edge.runtime.Exec, cri.ExecRequest(container_id=container_id, cmd=["sh"], tty=True, stdout=True), "?1010"),
        (edge.runtime.Attach, cri.AttachRequest(container_id=container_id, stdin=True, stderr=True), "?0101"),
        (edge.runtime.PortForward, cri.PortForwardRequest(pod_sandbox_id=pod_id, port=[80]), "?(80,)"),
    )
    for call, request, end in requests:
        url = (await call(request)).url
        assert url.startswith("http://127.0.0.1:1/")
        assert url.endswith(end)


async def test_checkpoint_reaches_core(edge: Edge) -> None:
    container_id = await edge.start(await edge.run_pod())

    request = cri.CheckpointContainerRequest(container_id=container_id, location="/tmp/x.tar", timeout=3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.runtime.CheckpointContainer(request)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.behaviour("EVT-01", "EVT-02", "EVT-03", "EVT-05")
async def test_events_in_order(edge: Edge, calls: CallBook) -> None:
    stream = edge.runtime.GetContainerEvents(cri.GetEventsRequest())
    while not calls.by_method["GetContainerEvents"].in_flight:
        await edge.runtime.Version(cri.VersionRequest())
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)
    await edge.runtime.StopContainer(cri.StopContainerRequest(container_id=container_id))
    await edge.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id))

    events = [await stream.read() for _ in range(8)]

    created, started, stopped, deleted = ContainerEventType
    assert [(event.container_id, event.container_event_type) for event in events] == [
        (pod_id, created),
        (pod_id, started),
        (container_id, created),
        (container_id, started),
        (container_id, stopped),
        (pod_id, stopped),
        (container_id, deleted),
        (pod_id, deleted),
    ]
    assert events[1].pod_sandbox_status.state == cri.SANDBOX_READY
    assert [status.state for status in events[3].containers_statuses] == [cri.CONTAINER_RUNNING]
    assert events[4].containers_statuses[0].exit_code == 137
    assert not events[-1].HasField("pod_sandbox_status")
    assert len({event.created_at for event in events}) == 8
    stream.cancel()


@pytest.mark.behaviour("IMG-03", "IMG-06", "IMG-08", "IMG-12")
async def test_image_status(edge: Edge) -> None:
    for name in (IMAGE_ID, "busybox", "docker.io/library/busybox@sha256:" + "cd" * 32):
        answer = await edge.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)))
        assert (answer.image.id, answer.image.size, answer.image.pinned) == (IMAGE_ID, 1234567, True)
        assert answer.image.HasField("uid")
        assert not answer.info
    absent = await edge.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image="nothing")))
    verbose = await edge.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=IMAGE_ID), verbose=True))

    assert absent == cri.ImageStatusResponse()
    assert json.loads(verbose.info["info"]) == {"chainID": "sha256:00"}


@pytest.mark.behaviour("IMG-20", "IMG-21", "IMG-24")
async def test_image_list(edge: Edge) -> None:
    other = ImageRecord("sha256:" + "ef" * 32, ("example.org/x:1",), (), 0, username="www")
    edge.node.inventory.image_list.put("docker", other)

    for name, expected in (("", {IMAGE_ID, other.id}), ("busybox", {IMAGE_ID}), ("nothing", set())):
        given = cri.ImageFilter(image=cri.ImageSpec(image=name))
        listed = await edge.images.ListImages(cri.ListImagesRequest(filter=given))
        streamed = [m async for m in edge.images.StreamImages(cri.StreamImagesRequest(filter=given))]

        assert {item.id for item in listed.images} == expected
        assert [item for message in streamed for item in message.images] == list(listed.images)
    [shown] = [item for item in (await edge.images.ListImages(cri.ListImagesRequest())).images if item.id == other.id]
    assert (shown.size, shown.username, shown.HasField("uid")) == (1, "www", False)


@pytest.mark.behaviour("IMG-30", "IMG-36", "IMG-39", "IMG-51")
async def test_pull_and_remove(edge: Edge) -> None:
    pod = cri.PodSandboxConfig(labels={"app": "x"})
    auth = cri.AuthConfig(auth="dXNlcjpwYXNzAAA=", server_address="example.org")
    spec = cri.ImageSpec(image="example.org/new:1", annotations={"a": "b"})
    pulled = await edge.images.PullImage(cri.PullImageRequest(image=spec, auth=auth, sandbox_config=pod))
    listed = await edge.images.ListImages(cri.ListImagesRequest())
    await edge.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=pulled.image_ref)))

    [(asked, used, sandbox)] = edge.node.images.pulls
    assert pulled.image_ref in {image.id for image in listed.images}
    assert (asked.image, dict(asked.annotations)) == ("example.org/new:1", {"a": "b"})
    assert used == RegistryAuth("user", "pass", server_address="example.org")
    assert sandbox is not None
    assert sandbox.labels == {"app": "x"}
    assert len((await edge.images.ListImages(cri.ListImagesRequest())).images) == 1


@pytest.mark.behaviour("IMG-60")
async def test_image_fs_info_has_numbers_that_are_zero(edge: Edge) -> None:
    [usage] = (await edge.images.ImageFsInfo(cri.ImageFsInfoRequest())).image_filesystems

    assert usage.HasField("used_bytes")
    assert usage.HasField("inodes_used")
    assert usage.fs_id.mountpoint == "/var/lib/fake"


@pytest.mark.behaviour("MET-01", "MET-02", "MET-04", "MET-09")
async def test_metrics(edge: Edge) -> None:
    pod_id = await edge.run_pod()
    container_id = await edge.start(pod_id)
    [descriptor] = (await edge.runtime.ListMetricDescriptors(cri.ListMetricDescriptorsRequest())).descriptors
    [pod] = (await edge.runtime.ListPodSandboxMetrics(cri.ListPodSandboxMetricsRequest())).pod_metrics
    streamed = [m async for m in edge.runtime.StreamPodSandboxMetrics(cri.StreamPodSandboxMetricsRequest())]

    assert (descriptor.name, list(descriptor.label_keys)) == ("container_threads", ["pod", "id"])
    assert (pod.pod_sandbox_id, pod.container_metrics[0].container_id) == (pod_id, container_id)
    assert pod.metrics[0].HasField("value")
    assert (pod.metrics[0].metric_type, list(pod.metrics[0].label_values)) == (cri.GAUGE, ["web", pod_id])
    assert [metrics for message in streamed for metrics in message.pod_sandbox_metrics] == [pod]
