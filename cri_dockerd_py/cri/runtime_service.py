"""CRI RuntimeService: the index of its RPCs, each one decode, call, encode.

A method without `async` answers from memory. A reply is a message, or bytes where those are kept ready; the methods of
streams yield theirs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri import wire
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.cri.decode import node as decode
from cri_dockerd_py.cri.decode.container import container_spec
from cri_dockerd_py.cri.decode.resources import resources
from cri_dockerd_py.cri.decode.sandbox import log_directory, sandbox_spec
from cri_dockerd_py.cri.encode import metrics as encode_metrics
from cri_dockerd_py.cri.encode import node as encode_node
from cri_dockerd_py.cri.encode.container import exit_code
from cri_dockerd_py.cri.encode.text import verbose_info
from cri_dockerd_py.cri.encoded import Remembered, message_bytes
from cri_dockerd_py.cri.inventory_replies import InventoryReplies
from cri_dockerd_py.cri.node import Node
from cri_dockerd_py.cri.stats_replies import StatsReplies
from cri_dockerd_py.errors import Unavailable


class RuntimeService:
    """Pods, containers, and what runs in them."""

    def __init__(self, node: Node, replies: InventoryReplies) -> None:
        self._node = node
        self._replies = replies
        self._stats = StatsReplies(node.inventory)
        self._version = Remembered()
        self._status = Remembered()

    # --- the node

    def Version(self, request: pb.VersionRequest) -> bytes:
        known = self._node.status.version()
        return self._version.get(known, lambda: encode_node.version(*known))

    async def Status(self, request: pb.StatusRequest) -> bytes:
        status = self._node.status
        known = (status.conditions(), status.handlers(), status.supplemental_groups_policy())
        reply = self._status.get(known, lambda: encode_node.status(*known))
        return reply + verbose_info(status.verbose()) if request.verbose else reply

    def RuntimeConfig(self, request: pb.RuntimeConfigRequest) -> pb.RuntimeConfigResponse:
        driver = self._node.status.cgroup_driver()
        if driver is None:
            raise Unavailable("the cgroup driver is not known before the engine has been reached; ask again")
        return encode_node.runtime_config(driver)

    def UpdateRuntimeConfig(self, request: pb.UpdateRuntimeConfigRequest) -> bytes:
        self._node.status.update_pod_cidr(decode.pod_cidr(request.runtime_config))
        return b""

    # --- sandboxes

    async def RunPodSandbox(self, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
        spec = sandbox_spec(request.config, request.runtime_handler)
        return pb.RunPodSandboxResponse(pod_sandbox_id=await self._node.sandboxes.run(spec))

    async def StopPodSandbox(self, request: pb.StopPodSandboxRequest) -> bytes:
        await self._node.sandboxes.stop(request.pod_sandbox_id)
        return b""

    async def RemovePodSandbox(self, request: pb.RemovePodSandboxRequest) -> bytes:
        await self._node.sandboxes.remove(request.pod_sandbox_id)
        return b""

    async def PodSandboxStatus(self, request: pb.PodSandboxStatusRequest) -> bytes:
        reply = self._replies.sandbox_status(request.pod_sandbox_id)
        if not request.verbose:
            return reply
        return reply + verbose_info({"info": await self._node.sandboxes.verbose(request.pod_sandbox_id)})

    def ListPodSandbox(self, request: pb.ListPodSandboxRequest) -> bytes:
        return self._replies.list_sandboxes(request.filter)

    async def StreamPodSandboxes(self, request: pb.StreamPodSandboxesRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(self._replies.sandbox_items(request.filter)):
            yield chunk

    async def UpdatePodSandboxResources(self, request: pb.UpdatePodSandboxResourcesRequest) -> bytes:
        overhead = resources("overhead", request.overhead) if request.HasField("overhead") else None
        total = resources("resources", request.resources) if request.HasField("resources") else None
        await self._node.sandboxes.update_resources(request.pod_sandbox_id, overhead, total)
        return b""

    # --- containers

    async def CreateContainer(self, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
        directory = log_directory("sandbox_config.log_directory", request.sandbox_config.log_directory)
        created = await self._node.containers.create(request.pod_sandbox_id, container_spec(request), directory)
        return pb.CreateContainerResponse(container_id=created)

    async def StartContainer(self, request: pb.StartContainerRequest) -> bytes:
        await self._node.containers.start(request.container_id)
        return b""

    async def StopContainer(self, request: pb.StopContainerRequest) -> bytes:
        await self._node.containers.stop(request.container_id, decode.seconds(request.timeout))
        return b""

    async def RemoveContainer(self, request: pb.RemoveContainerRequest) -> bytes:
        await self._node.containers.remove(request.container_id)
        return b""

    async def ContainerStatus(self, request: pb.ContainerStatusRequest) -> bytes:
        reply = self._replies.container_status(request.container_id)
        if not request.verbose:
            return reply
        return reply + verbose_info({"info": await self._node.containers.verbose(request.container_id)})

    def ListContainers(self, request: pb.ListContainersRequest) -> bytes:
        return self._replies.list_containers(request.filter)

    async def StreamContainers(self, request: pb.StreamContainersRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(self._replies.container_items(request.filter)):
            yield chunk

    async def UpdateContainerResources(self, request: pb.UpdateContainerResourcesRequest) -> bytes:
        await self._node.containers.update_resources(request.container_id, resources("linux", request.linux))
        return b""

    async def ReopenContainerLog(self, request: pb.ReopenContainerLogRequest) -> bytes:
        await self._node.containers.reopen_log(request.container_id)
        return b""

    async def CheckpointContainer(self, request: pb.CheckpointContainerRequest) -> bytes:
        location, timeout_s = decode.checkpoint_location(request.location), decode.checkpoint_timeout(request.timeout)
        await self._node.containers.checkpoint(request.container_id, location, timeout_s)
        return b""

    async def GetContainerEvents(self, request: pb.GetEventsRequest) -> AsyncGenerator[bytes, None]:
        async for event in self._node.events.subscribe():
            yield self._replies.event(event)

    # --- processes and streams

    async def ExecSync(self, request: pb.ExecSyncRequest) -> pb.ExecSyncResponse:
        command, timeout_s = fields.arguments("cmd", request.cmd), decode.seconds(request.timeout)
        result = await self._node.execution.exec_sync(request.container_id, command, timeout_s)
        code = exit_code(result.exit_code)
        return pb.ExecSyncResponse(stdout=result.stdout, stderr=result.stderr, exit_code=code)

    async def Exec(self, request: pb.ExecRequest) -> pb.ExecResponse:
        command, streams = fields.arguments("cmd", request.cmd), (request.stdin, request.stdout, request.stderr)
        url = await self._node.execution.exec_url(request.container_id, command, request.tty, *streams)
        return pb.ExecResponse(url=url)

    async def Attach(self, request: pb.AttachRequest) -> pb.AttachResponse:
        streams = (request.stdin, request.stdout, request.stderr)
        url = await self._node.execution.attach_url(request.container_id, request.tty, *streams)
        return pb.AttachResponse(url=url)

    async def PortForward(self, request: pb.PortForwardRequest) -> pb.PortForwardResponse:
        url = await self._node.execution.port_forward_url(request.pod_sandbox_id, tuple(request.port))
        return pb.PortForwardResponse(url=url)

    # --- usage

    async def ContainerStats(self, request: pb.ContainerStatsRequest) -> bytes:
        stats = await self._node.stats.container(request.container_id)
        return b"".join(self._stats.container_items([stats]))

    async def ListContainerStats(self, request: pb.ListContainerStatsRequest) -> bytes:
        return b"".join(await self._container_stats(request.filter))

    async def StreamContainerStats(self, request: pb.StreamContainerStatsRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(await self._container_stats(request.filter)):
            yield chunk

    async def PodSandboxStats(self, request: pb.PodSandboxStatsRequest) -> bytes:
        stats = await self._node.stats.sandbox(request.pod_sandbox_id)
        return b"".join(self._stats.sandbox_items([stats]))

    async def ListPodSandboxStats(self, request: pb.ListPodSandboxStatsRequest) -> bytes:
        return b"".join(await self._sandbox_stats(request.filter))

    async def StreamPodSandboxStats(self, request: pb.StreamPodSandboxStatsRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(await self._sandbox_stats(request.filter)):
            yield chunk

    def ListMetricDescriptors(self, request: pb.ListMetricDescriptorsRequest) -> pb.ListMetricDescriptorsResponse:
        return encode_metrics.descriptors(self._node.stats.metric_descriptors())

    async def ListPodSandboxMetrics(self, request: pb.ListPodSandboxMetricsRequest) -> bytes:
        return b"".join(await self._sandbox_metrics())

    async def StreamPodSandboxMetrics(self, request: pb.StreamPodSandboxMetricsRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(await self._sandbox_metrics()):
            yield chunk

    async def _container_stats(self, given: pb.ContainerStatsFilter) -> list[bytes]:
        labels = dict(given.label_selector)
        stats = await self._node.stats.containers(id=given.id, sandbox_id=given.pod_sandbox_id, labels=labels)
        return self._stats.container_items(stats)

    async def _sandbox_stats(self, given: pb.PodSandboxStatsFilter) -> list[bytes]:
        stats = await self._node.stats.sandboxes(id=given.id, labels=dict(given.label_selector))
        return self._stats.sandbox_items(stats)

    async def _sandbox_metrics(self) -> list[bytes]:
        pods = await self._node.stats.sandbox_metrics()
        return [wire.sub_message(1, message_bytes(encode_metrics.sandbox_metrics(pod))) for pod in pods]
