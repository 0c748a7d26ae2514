"""What a container's record is made of: its snapshot, its users, its mounts, its OCI spec."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from google.protobuf.any_pb2 import Any as AnyValue

from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py._generated.containerd_v1.types_pb2 import Mount as RootMount
from cri_dockerd_py.backends.containerd import container_metadata, labels
from cri_dockerd_py.backends.containerd.any_value import json_any
from cri_dockerd_py.backends.containerd.container_metadata import ContainerRecordMetadata, encode_container
from cri_dockerd_py.backends.containerd.daemon_state import DaemonFacts, DaemonState
from cri_dockerd_py.backends.containerd.host_side import HostSide, host_side
from cri_dockerd_py.backends.containerd.image_volumes import ImageVolumes
from cri_dockerd_py.backends.containerd.labelling import load_default_apparmor_profile, relabel
from cri_dockerd_py.backends.containerd.objects import SPEC_TYPE, Held, Objects
from cri_dockerd_py.backends.containerd.oci.container_spec import container_spec
from cri_dockerd_py.backends.containerd.oci.facts import PodFiles, SelinuxLabels
from cri_dockerd_py.backends.containerd.oci.image_config import ImageConfig
from cri_dockerd_py.backends.containerd.oci.inputs import ContainerInputs
from cri_dockerd_py.backends.containerd.oci.namespaces import mapped
from cri_dockerd_py.backends.containerd.oci.selinux import container_labels, pod_level, sandbox_labels
from cri_dockerd_py.backends.containerd.plugin_files import PluginFiles
from cri_dockerd_py.backends.containerd.runtimes import Handler, Runtimes
from cri_dockerd_py.backends.containerd.sandbox_files import SandboxFiles
from cri_dockerd_py.backends.containerd.sandbox_prepare import SnapshotsOf
from cri_dockerd_py.backends.containerd.snapshots import Snapshots
from cri_dockerd_py.backends.containerd.user_files import ImageUserFiles
from cri_dockerd_py.backends.containerd.volumes import ImageDeclaredVolumes
from cri_dockerd_py.backends.unified_limits import check_unified
from cri_dockerd_py.backends.users import ResolvedUser, UserWish, resolve_user
from cri_dockerd_py.errors import AlreadyExists, FailedPrecondition, NotFound
from cri_dockerd_py.model.container import ContainerSpec, Mount
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.layers import chain_ids
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.model.security import NamespaceMode, UserNamespace

_UID_MAP, _GID_MAP = "containerd.io/snapshot/uidmapping", "containerd.io/snapshot/gidmapping"
_UPPER = "upperdir="


class PreparedImages(Protocol):
    """What is needed of the image store."""

    async def config_of(self, image_id: str) -> ImageConfig:
        """Return an image's configuration."""

    async def ensure_unpacked(self, image_id: str, snapshotter: str, lease: str) -> str:
        """Return the snapshot that an image's content is, unpacked now where it is not."""


@dataclass(frozen=True, slots=True)
class NewContainer:
    """A container that is wanted; `log_path` is absolute, or empty."""

    id: str
    name: str
    spec: ContainerSpec
    image: ImageRecord
    sandbox: SandboxRecord
    log_path: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record to create, and how the root file system that was prepared for it is mounted."""

    record: Container
    rootfs: Sequence[RootMount]
    layer_path: str
    image: ImageConfig


class ContainerPreparation:
    """Does all that comes before the record; `undo` takes it back."""

    def __init__(
        self,
        daemon: DaemonState,
        runtimes: Runtimes,
        objects: Objects,
        images: PreparedImages,
        snapshots_of: SnapshotsOf,
        files: SandboxFiles,
        plugin_files: PluginFiles,
        image_volumes: ImageVolumes,
        declared_volumes: ImageDeclaredVolumes,
        user_files: ImageUserFiles,
        namespace: str,
    ) -> None:
        self._daemon = daemon
        self._runtimes = runtimes
        self._objects = objects
        self._images = images
        self._snapshots_of = snapshots_of
        self._files = files
        self._plugin_files = plugin_files
        self._image_volumes = image_volumes
        self._declared_volumes = declared_volumes
        self._user_files = user_files
        self._namespace = namespace
        self._apparmor_is_loaded = False

    async def prepare(self, new: NewContainer) -> Prepared:
        """Make what the record needs, and return it."""
        spec, sandbox = new.spec, new.sandbox
        facts = await self._daemon.facts()
        check_unified(spec.resources.unified, facts.host.cgroup_version)
        handler = self._runtimes.handler(sandbox.spec.runtime_handler, sandbox.spec.cgroup_parent)
        target_pid = self._target_pid(spec)
        files = await self._pod_files(sandbox)
        host = await asyncio.to_thread(host_side, spec)
        selinux = await self._profiles(spec, sandbox, host, files, facts)
        config = await self._images.config_of(new.image.id)
        userns = sandbox.spec.security.namespaces.userns
        snapshots = self._snapshots_of(handler.config.snapshotter)
        rootfs = await self._snapshot(new, config, snapshots, userns)
        volumes = await self._declared_volumes.make(new.id, config.volumes, spec.mounts, rootfs, userns)
        oci_spec = container_spec(
            ContainerInputs(
                id=new.id,
                spec=spec,
                sandbox_id=sandbox.id,
                sandbox=sandbox.spec,
                sandbox_pid=sandbox.pid or self._objects.running.get(sandbox.id, 0),
                image=config,
                user=await self._user(spec, new.image.id, config, rootfs),
                facts=facts.host,
                handler=handler.spec_options(),
                files=files,
                namespace=self._namespace,
                target_pid=target_pid,
                hostname=sandbox.spec.hostname,
                mounts=[await self._with_image(mount, sandbox.id) for mount in host.mounts],
                volumes=volumes,
                devices=host.devices,
                host_devices=host.host_devices,
                mount_table=host.mount_table,
                cdi=host.cdi,
                labels=selinux,
                profiles=host.profiles,
            )
        )
        layer_path = layer_path_of(rootfs)
        metadata = ContainerRecordMetadata(
            new.id, new.name, sandbox.id, spec, new.image.id, new.log_path, config.stop_signal, selinux.process
        )
        record = self._record(metadata, oci_spec, handler, snapshots.snapshotter, layer_path)
        return Prepared(record, rootfs, layer_path, config)

    def _record(
        self,
        metadata: ContainerRecordMetadata,
        oci_spec: Mapping[str, object],
        handler: Handler,
        snapshotter: str,
        layer_path: str,
    ) -> Container:
        extension = AnyValue(type_url=container_metadata.TYPE_URL, value=encode_container(metadata))
        own = {labels.LAYER: layer_path} if layer_path else {}
        return Container(
            id=metadata.id,
            labels=labels.record_labels(labels.CONTAINER, metadata.name, metadata.spec.labels, own),
            image=metadata.spec.image.image,
            runtime=Container.Runtime(name=handler.config.runtime_type, options=handler.runtime_options()),
            spec=json_any(SPEC_TYPE, oci_spec),
            snapshotter=snapshotter,
            snapshot_key=metadata.id,
            extensions={container_metadata.EXTENSION: extension},
            sandbox=metadata.sandbox_id,
        )

    # --- the parts

    def _target_pid(self, spec: ContainerSpec) -> int:
        options = spec.security.namespaces
        if options.pid is not NamespaceMode.TARGET:
            return 0
        pid = self._objects.running.get(options.target_id, 0)
        if not pid:
            raise FailedPrecondition(f"container {options.target_id}, whose processes are to be shared, does not run")
        return pid

    async def _pod_files(self, sandbox: SandboxRecord) -> PodFiles:
        held = self._objects.held.get(sandbox.id)
        if held is not None and held.by_plugin:
            return await self._plugin_files.of(sandbox.id)
        return self._files.of(sandbox.id, sandbox.spec)

    async def _profiles(
        self, spec: ContainerSpec, sandbox: SandboxRecord, host: HostSide, files: PodFiles, facts: DaemonFacts
    ) -> SelinuxLabels:
        """Have AppArmor's default profile loaded, give files their SELinux labels, and return the container's."""
        if facts.host.apparmor and not self._apparmor_is_loaded:
            await asyncio.to_thread(load_default_apparmor_profile)
            self._apparmor_is_loaded = True
        contexts = facts.host.selinux
        if contexts is None:
            return SelinuxLabels()
        pod = sandbox.spec.security
        pods_own = sandbox_labels(pod.selinux, contexts, pod_level(sandbox.id), privileged=pod.privileged)
        own = container_labels(spec.security.selinux, pods_own, contexts, privileged=spec.security.privileged)
        relabelled = [mount.host_path for mount in host.mounts if mount.selinux_relabel]
        for path in (*relabelled, files.hostname, files.hosts, files.resolv_conf):
            if path:
                await asyncio.to_thread(relabel, path, own.mount)
        return own

    async def _snapshot(
        self, new: NewContainer, config: ImageConfig, snapshots: Snapshots, userns: UserNamespace | None
    ) -> Sequence[RootMount]:
        """Prepare the root file system, unpacking the image again where that is lost."""
        wanted = {**labels.snapshot_labels(new.name), **_mapping_labels(userns)}
        with suppress(NotFound):
            return await snapshots.prepare(new.id, chain_ids(config.diff_ids)[-1], labels=wanted)
        chain_id = await self._images.ensure_unpacked(new.image.id, snapshots.snapshotter, "")
        with suppress(AlreadyExists):
            return await snapshots.prepare(new.id, chain_id, labels=wanted)
        return await snapshots.mounts(new.id)

    async def _user(
        self, spec: ContainerSpec, image_id: str, config: ImageConfig, rootfs: Sequence[RootMount]
    ) -> ResolvedUser:
        security = spec.security
        wish = UserWish(
            image_user=config.user,
            run_as_user=security.run_as_user,
            run_as_username=security.run_as_username,
            run_as_group=security.run_as_group,
            supplemental_groups=security.supplemental_groups,
            policy=security.groups_policy,
        )
        return await asyncio.to_thread(resolve_user, await self._user_files.files(image_id, rootfs), wish)

    async def _with_image(self, mount: Mount, sandbox_id: str) -> Mount:
        if mount.image is None:
            return mount
        source = await self._image_volumes.source(sandbox_id, mount.image.image_ref, mount.image_sub_path)
        return replace(mount, host_path=source)

    def runtime_path(self, held: Held) -> str:
        """Return the shim that the container's runtime handler has of its own, "" for the usual one."""
        sandbox = self._objects.held.get(held.sandbox_id)
        table = self._runtimes.tables.get(sandbox.handler) if sandbox is not None else None
        return table.runtime_path if table is not None else ""

    async def undo(self, new: NewContainer) -> None:
        """Remove what was prepared for a record that was not made; its directories are the caller's."""
        handler = self._runtimes.handler(new.sandbox.spec.runtime_handler, new.sandbox.spec.cgroup_parent)
        await self._snapshots_of(handler.config.snapshotter).remove(new.id)


def layer_path_of(rootfs: Sequence[RootMount]) -> str:
    """Return the directory that the container writes into, "" where there is none."""
    options = [option for mount in rootfs for option in mount.options]
    return next((option.removeprefix(_UPPER) for option in options if option.startswith(_UPPER)), "")


def _mapping_labels(userns: UserNamespace | None) -> dict[str, str]:
    if userns is None or not mapped(userns):
        return {}
    uids, gids = userns.uids[0], userns.gids[0]
    return {
        _UID_MAP: f"{uids.container_id}:{uids.host_id}:{uids.length}",
        _GID_MAP: f"{gids.container_id}:{gids.host_id}:{gids.length}",
    }
