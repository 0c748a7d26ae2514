"""Leases: what holds on to content and snapshots that are in no image or container yet.

Whatever is made under a lease stays until the lease is deleted or expires, and then for as long as something refers to
it. A write under a lease that is gone fails with NotFound.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from cri_dockerd_py._generated.containerd_v1.leases_pb2 import (
    AddResourceRequest,
    CreateRequest,
    DeleteRequest,
    Lease,
    ListRequest,
    ListResourcesRequest,
    Resource,
)
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import CriError, NotFound, ResourceExhausted
from cri_dockerd_py.network.settle import settle_call

_LOG = logging.getLogger(__name__)
#: On all leases of ours: what it is for.
LEASE_LABEL = "io.cri-dockerd-py.lease"
#: Whose it is, when several services use one containerd.
OWNER_LABEL = "io.cri-dockerd-py.owner"
_EXPIRE_LABEL = "containerd.io/gc.expire"
_END_WITHIN_S = 10.0


class Leases:
    """The leases of one service, `owner`."""

    def __init__(self, client: ContainerdClient, owner: str) -> None:
        self._client = client
        self._owner = owner
        self._in_use: set[str] = set()

    async def create(
        self, purpose: str, *, lease_id: str = "", expires_in_s: float = 0.0, labels: Mapping[str, str] | None = None
    ) -> str:
        """Make a lease, with a random id unless one is given, and return its id; AlreadyExists when it is taken.

        With `expires_in_s` it ends by itself.
        """
        lease_id = lease_id or _new_id(purpose)
        all_labels = {**(labels or {}), LEASE_LABEL: purpose, OWNER_LABEL: self._owner}
        if expires_in_s:
            all_labels[_EXPIRE_LABEL] = _rfc3339(_now() + datetime.timedelta(seconds=expires_in_s))
        await self._client.call(self._client.leases.Create, CreateRequest(id=lease_id, labels=all_labels))
        return lease_id

    async def delete(self, lease_id: str, *, sync: bool = False) -> None:
        """Delete a lease; absent is fine. With `sync`, wait until what it alone held has been collected."""
        with contextlib.suppress(NotFound):
            await self._client.call(self._client.leases.Delete, DeleteRequest(id=lease_id, sync=sync))

    async def list(self, purpose: str) -> Sequence[Lease]:
        """Return this service's leases for `purpose`."""
        filters = [f'labels."{LEASE_LABEL}"=={_quoted(purpose)},labels."{OWNER_LABEL}"=={_quoted(self._owner)}']
        return (await self._client.call(self._client.leases.List, ListRequest(filters=filters))).leases

    async def add(self, lease_id: str, kind: str, name: str) -> None:
        """Let a lease hold something: "content" by digest, "ingests" by ref, "snapshots/<snapshotter>" by key.

        It need not exist, so that it can be held first and looked for afterwards.
        """
        resource = Resource(id=name, type=kind)
        await self._client.call(self._client.leases.AddResource, AddResourceRequest(id=lease_id, resource=resource))

    async def resources(self, lease_id: str) -> Sequence[Resource]:
        """Return what a lease holds."""
        request = ListResourcesRequest(id=lease_id)
        return (await self._client.call(self._client.leases.ListResources, request)).resources

    @contextlib.asynccontextmanager
    async def held(self, purpose: str, *, expires_in_s: float, keep_for_s: float = 0.0) -> AsyncIterator[str]:
        """Make a lease for the duration of the context.

        When that ends with an error, what the lease held is kept for `keep_for_s` longer, so that a next try finds it;
        not where the file system is full, which it would keep full.
        """
        lease_id = _new_id(purpose)
        self._in_use.add(lease_id)
        try:
            await self.create(purpose, lease_id=lease_id, expires_in_s=expires_in_s)
            try:
                yield lease_id
            except ResourceExhausted:
                await settle_call(self._let_go(lease_id), f"end of lease {lease_id}")
                raise
            except BaseException:
                await self._end(lease_id, kept(purpose), keep_for_s)
                raise
            await self._end(lease_id, "", 0.0)
        finally:
            self._in_use.discard(lease_id)

    async def end_stale(self, purpose: str, *, keep_for_s: float = 0.0) -> None:
        """End, as `held` would have, the leases for `purpose` that it could not: the service or containerd had died."""
        for lease in await self.list(purpose):
            if lease.id not in self._in_use:
                await self._pass_on(lease.id, kept(purpose), keep_for_s)

    async def _end(self, lease_id: str, purpose: str, keep_for_s: float) -> None:
        """Delete a lease whatever happens to the caller; if it cannot be, it expires."""
        await settle_call(self._pass_on(lease_id, purpose, keep_for_s), f"end of lease {lease_id}")

    async def _let_go(self, lease_id: str) -> None:
        """Delete a lease and what it alone held, before anybody is told of the failure."""
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await self.delete(lease_id, sync=True)
        except (CriError, TimeoutError) as error:
            _LOG.info("lease %s is left to expire: %s", lease_id, error or "no answer")

    async def _pass_on(self, lease_id: str, purpose: str, keep_for_s: float) -> None:
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                if keep_for_s and (resources := await self.resources(lease_id)):
                    heir = await self.create(purpose, expires_in_s=keep_for_s)
                    for resource in resources:
                        await self.add(heir, resource.type, resource.id)
                await self.delete(lease_id)
        except (CriError, TimeoutError) as error:
            _LOG.info("lease %s is left to expire: %s", lease_id, error or "no answer")


def _new_id(purpose: str) -> str:
    return f"cri-dockerd-py-{purpose}-{secrets.token_hex(8)}"


def kept(purpose: str) -> str:
    """Return the purpose of leases that keep what others have left, until they expire."""
    return f"{purpose}-kept"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _rfc3339(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(text: str) -> str:
    """Return a filter's value that is taken as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
