"""What a sandbox's record is made of: its files, its root file system, its OCI spec."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from google.protobuf.any_pb2 import Any as AnyValue

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount
from cri_dockerd_py.backends.containerd import labels, sandbox_metadata
from cri_dockerd_py.backends.containerd.any_value import json_any
from cri_dockerd_py.backends.containerd.daemon_state import DaemonFacts, DaemonState
from cri_dockerd_py.backends.containerd.host_side import read_profiles
from cri_dockerd_py.backends.containerd.objects import SPEC_TYPE, Held
from cri_dockerd_py.backends.containerd.oci.inputs import SandboxInputs
from cri_dockerd_py.backends.containerd.oci.namespaces import mapped
from cri_dockerd_py.backends.containerd.oci.sandbox_spec import sandbox_spec
from cri_dockerd_py.backends.containerd.oci.selinux import pod_level, sandbox_labels
from cri_dockerd_py.backends.containerd.pause import BuiltInPause, PauseImage
from cri_dockerd_py.backends.containerd.runtimes import Handler, Runtimes
from cri_dockerd_py.backends.containerd.sandbox_files import SandboxFiles
from cri_dockerd_py.backends.containerd.sandbox_metadata import SandboxMetadata, encode_sandbox
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.users import UserFiles, UserWish, resolve_user
from cri_dockerd_py.errors import Unimplemented
from cri_dockerd_py.model.sandbox import SandboxSpec

SnapshotsOf = Callable[[str], Snapshots]


class SandboxPreparation:
    """`snapshots_of` returns a snapshotter by its name, "" for the default one."""

    def __init__(
        self,
        daemon: DaemonState,
        runtimes: Runtimes,
        pause: BuiltInPause | PauseImage,
        files: SandboxFiles,
        snapshots_of: SnapshotsOf,
        namespace: str,
    ) -> None:
        self._daemon = daemon
        self._runtimes = runtimes
        self._pause = pause
        self._files = files
        self._snapshots_of = snapshots_of
        self._namespace = namespace

    async def record(self, name: str, sandbox_id: str, spec: SandboxSpec, netns_path: str) -> Container:
        """Return the record to create; its root file system is there then, its files are made by `make_files`."""
        handler = self._runtimes.handler(spec.runtime_handler, spec.cgroup_parent)
        facts = await self._daemon.facts()
        userns_path = ""
        if mapped(spec.security.namespaces.userns):
            _check_users(handler, facts)
            userns_path = await self._files.pin_users(sandbox_id, netns_path) if netns_path else ""
        rootfs = await self._pause.rootfs(sandbox_id, name, self._snapshots_of(handler.config.snapshotter))
        security = spec.security
        contexts = facts.host.selinux
        level = pod_level(sandbox_id) if contexts is not None else ""
        selinux = sandbox_labels(security.selinux, contexts, level, privileged=security.privileged)
        user_wish = UserWish(
            image_user=rootfs.config.user,
            run_as_user=security.run_as_user,
            run_as_group=security.run_as_group,
            supplemental_groups=security.supplemental_groups,
        )
        oci_spec = sandbox_spec(
            SandboxInputs(
                id=sandbox_id,
                spec=spec,
                image=rootfs.config,
                user=resolve_user(UserFiles(), user_wish),
                facts=facts.host,
                handler=handler.spec_options(),
                files=self._files.of(sandbox_id, spec),
                namespace=self._namespace,
                netns_path=netns_path,
                userns_path=userns_path,
                image_name=rootfs.image_name,
                labels=selinux,
                profiles=await asyncio.to_thread(read_profiles, security.seccomp, None),
            )
        )
        metadata = SandboxMetadata(sandbox_id, name, spec, netns_path, process_label=selinux.process)
        extension = AnyValue(type_url=sandbox_metadata.TYPE_URL, value=encode_sandbox(metadata))
        return Container(
            id=sandbox_id,
            labels=labels.record_labels(labels.SANDBOX, name, spec.labels),
            image=rootfs.image_name,
            runtime=Container.Runtime(name=handler.config.runtime_type, options=handler.runtime_options()),
            spec=json_any(SPEC_TYPE, oci_spec),
            snapshotter=rootfs.snapshotter,
            snapshot_key=sandbox_id if rootfs.snapshotter else "",
            extensions={sandbox_metadata.EXTENSION: extension},
        )

    async def make_files(self, sandbox_id: str, spec: SandboxSpec) -> None:
        """Make what all containers of the pod get mounted, which the task needs, and the record does not."""
        await self._files.make(sandbox_id, spec, (await self._daemon.facts()).host.hostname)

    async def undo(self, sandbox_id: str) -> None:
        """Remove what was made for a sandbox that was not."""
        for snapshotter in self._runtimes.snapshotters():
            await self._snapshots_of(snapshotter).remove(sandbox_id)
        await self._files.remove(sandbox_id)

    async def mounts(self, held: Held) -> Sequence[Mount]:
        """Return the root file system of a sandbox's task."""
        if held.snapshotter:
            return await self._snapshots_of(held.snapshotter).mounts(held.snapshot_key)
        return (await self._pause.rootfs(held.id, held.name, self._snapshots_of(""))).mounts

    async def release(self, held: Held) -> None:
        """Remove a sandbox's root file system."""
        if held.snapshotter:
            await self._snapshots_of(held.snapshotter).remove(held.snapshot_key)

    def runtime_path(self, handler: str) -> str:
        """Return the shim that a handler has of its own, "" for the usual one."""
        return self._runtimes.handler(handler, "").config.runtime_path


def _check_users(handler: Handler, facts: DaemonFacts) -> None:
    if not handler.features.user_namespaces or not facts.remaps_ids:
        raise Unimplemented(
            f"a user namespace cannot be had with runtime handler {handler.config.name!r} here: it needs an OCI "
            "runtime with idmapped mounts (runc 1.2, crun 1.9), Linux 5.19, and a snapshotter that maps ids "
            "(containerd 2 with overlayfs)"
        )
