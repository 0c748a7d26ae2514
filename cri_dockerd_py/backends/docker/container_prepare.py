"""What has to be found out or made on the host, and in the image, before a container can be created."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cri_dockerd_py.backends.cdi.names import cdi_names
from cri_dockerd_py.backends.docker.cdi import DockerEdits, docker_edits
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.container_config import Prepared
from cri_dockerd_py.backends.docker.container_logs import DISCARD, ContainerLogs
from cri_dockerd_py.backends.docker.daemon_state import DaemonState
from cri_dockerd_py.backends.docker.devices import device_entries
from cri_dockerd_py.backends.docker.facts import DaemonFacts
from cri_dockerd_py.backends.docker.image_looks import ImageLooks
from cri_dockerd_py.backends.docker.image_paths import check_sub_path
from cri_dockerd_py.backends.docker.image_volumes import ImageVolumes
from cri_dockerd_py.backends.docker.mounts import IMAGE_MOUNT_API, check_mounts
from cri_dockerd_py.backends.docker.security_options import read_apparmor_profiles, read_seccomp_profile
from cri_dockerd_py.backends.docker.user_files import ImageUserFiles
from cri_dockerd_py.backends.mount_sources import resolve_sources
from cri_dockerd_py.backends.users import ResolvedUser, UserWish, resolve_user
from cri_dockerd_py.errors import Unimplemented
from cri_dockerd_py.model.container import ContainerSpec, Device, Mount
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.sandbox import SandboxRecord

Entries = Sequence[dict[str, Any]]


class ContainerPreparation:
    """Reads profiles and user files, makes missing mount sources, mounts images."""

    def __init__(
        self,
        client: DockerClient,
        daemon: DaemonState,
        user_files: ImageUserFiles,
        looks: ImageLooks,
        image_user: Callable[[ImageRecord], str],
        volumes: ImageVolumes,
        logs: ContainerLogs,
    ) -> None:
        self._client = client
        self._daemon = daemon
        self._user_files = user_files
        self._looks = looks
        self._image_user = image_user
        self._volumes = volumes
        self._logs = logs

    async def prepare(
        self, spec: ContainerSpec, image: ImageRecord, sandbox: SandboxRecord, facts: DaemonFacts, *, has_log: bool
    ) -> Prepared:
        """Return all of it; nothing that was made is left in the way of a second try."""
        check_mounts(spec.mounts, recursive_read_only=facts.recursive_read_only(sandbox.spec.runtime_handler))
        names = cdi_names(spec.cdi_devices, spec.annotations)
        edits = await asyncio.to_thread(docker_edits, names, docker_knows=facts.cdi) if names else DockerEdits()
        user = await self._user(spec, image)
        seccomp_json = await read_seccomp_profile(None if spec.security.privileged else spec.security.seccomp)
        apparmor_loaded = await read_apparmor_profiles(spec.security.apparmor)
        mounts, devices = await _on_host([*spec.mounts, *edits.mounts], [*spec.devices, *edits.devices])
        return Prepared(
            image=image.id,
            user=f"{user.uid}:{user.gid}",
            group_add=tuple(str(group) for group in user.groups),
            mounts=[await self._with_image(mount, sandbox.id, facts) for mount in mounts],
            log_config=self._logs.config() if has_log else DISCARD,
            devices=devices,
            cdi_requests=edits.requests,
            extra_envs=edits.envs,
            seccomp_json=seccomp_json,
            apparmor_loaded=apparmor_loaded,
            grantable=self._daemon.capabilities,
            least_oom_score_adj=self._daemon.least_oom_score_adj,
        )

    async def _user(self, spec: ContainerSpec, image: ImageRecord) -> ResolvedUser:
        security = spec.security
        wish = UserWish(
            image_user=self._image_user(image),
            run_as_user=security.run_as_user,
            run_as_username=security.run_as_username,
            run_as_group=security.run_as_group,
            supplemental_groups=security.supplemental_groups,
            policy=security.groups_policy,
        )
        return await asyncio.to_thread(resolve_user, await self._user_files.files(image.id), wish)

    async def _with_image(self, mount: Mount, sandbox_id: str, facts: DaemonFacts) -> Mount:
        """Return a bind mount of the image's content where Docker cannot mount it by itself."""
        if mount.image is None:
            return mount
        if facts.containerd_store and facts.api >= IMAGE_MOUNT_API:
            if not mount.image_sub_path:
                return mount
            path = await check_sub_path(self._client, self._looks, mount.image.image_ref, mount.image_sub_path)
            return replace(mount, image_sub_path=path)
        source = await self._volumes.source(sandbox_id, mount.image.image_ref, mount.image_sub_path)
        if source is None:
            raise Unimplemented(
                f"mount of image {mount.image.image}: Docker's storage driver here cannot do it; "
                f"it needs overlay2, or Docker Engine 28 with containerd's image store"
            )
        return replace(mount, host_path=source, image=None, image_sub_path="")


async def _on_host(mounts: Sequence[Mount], devices: Sequence[Device]) -> tuple[Sequence[Mount], Entries]:
    if not mounts and not devices:
        return (), ()
    return await asyncio.to_thread(lambda: (resolve_sources(mounts), device_entries(devices)))
