"""Status: engines, what is on each, and the newest migration."""

from __future__ import annotations

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.admin import encode
from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.migration.port import EngineFacts, NodePort, engine_facts
from cri_dockerd_py.model.container import ContainerState
from cri_dockerd_py.model.sandbox import SandboxState


def status(node: AdminNode) -> pb.StatusResponse:
    """Return the service as it is now."""
    problem = node.network_problem()
    progress = node.migrations.progress
    return pb.StatusResponse(
        version=node.version,
        started_at_ns=node.started_at_ns,
        engines=[_engine(node.port, facts) for facts in engine_facts(node.port)],
        default_engine=node.port.default_engine(),
        network_ready=not problem,
        network_problem=problem,
        migration=encode.migration(progress) if progress.run is not None else None,
        log_level=node.log_level.get(),
        settings=node.settings,
    )


def _engine(port: NodePort, facts: EngineFacts) -> pb.Engine:
    sandboxes = [record for record in port.sandboxes.values() if record.engine == facts.name]
    there = [record for record in sandboxes if not port.is_tombstone(record.id)]
    ready = sum(record.state is SandboxState.READY for record in there)
    states = [
        record.state
        for record in port.containers.values()
        if record.engine == facts.name and not port.is_tombstone(record.id)
    ]
    return pb.Engine(
        name=facts.name,
        ready=facts.ready,
        problem="" if facts.ready else facts.reason,
        version=facts.version,
        root_dir=facts.root_dir,
        pods_ready=ready,
        pods_not_ready=len(there) - ready,
        containers_running=states.count(ContainerState.RUNNING),
        containers_exited=states.count(ContainerState.EXITED),
        images=len(port.images(facts.name)),
        tombstones=len(sandboxes) - len(there),
    )
