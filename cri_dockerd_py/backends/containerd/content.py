"""Blobs of containerd's content store: read, labelled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from cri_dockerd_py._generated.containerd_v1.content_pb2 import (
    Info,
    InfoRequest,
    ListContentRequest,
    ReadContentRequest,
    UpdateRequest,
)
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.errors import NotFound, Unknown

#: Indexes, manifests and configurations are smaller.
DOCUMENT_LIMIT_BYTES = 8 << 20


class Content:
    """The content store as one containerd namespace sees it."""

    def __init__(self, client: ContainerdClient) -> None:
        self._client = client

    async def info(self, digest: str) -> Info | None:
        """Return size and labels of a blob, None when it is absent."""
        try:
            return (await self._client.call(self._client.content.Info, InfoRequest(digest=digest))).info
        except NotFound:
            return None

    async def read(self, digest: str, *, limit_bytes: int = DOCUMENT_LIMIT_BYTES) -> bytes:
        """Return a whole blob; NotFound when it is absent, Unknown when it is larger than `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        request = ReadContentRequest(digest=digest)
        async with contextlib.aclosing(self._client.stream(self._client.content.Read, request)) as answers:
            async for answer in answers:
                parts.append(answer.data)
                size += len(answer.data)
                if size > limit_bytes:
                    raise Unknown(f"blob {digest} is larger than the {limit_bytes} bytes that such a document may have")
        return b"".join(parts)

    async def read_json(self, digest: str) -> dict[str, Any]:
        """Return the JSON object in a blob; NotFound when it is absent, Unknown when it is none."""
        content = await self.read(digest)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Unknown(f"blob {digest} is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise Unknown(f"blob {digest} is JSON, but no object")
        return document

    async def list(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        """Yield all blobs that pass one of the filters; all when there are none."""
        request = ListContentRequest(filters=filters)
        async with contextlib.aclosing(self._client.stream(self._client.content.List, request)) as answers:
            async for answer in answers:
                for info in answer.info:
                    yield info

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Set some labels of a blob and leave its others alone; an empty value removes one."""
        mask = FieldMask(paths=[f"labels.{key}" for key in labels])
        request = UpdateRequest(info=Info(digest=digest, labels=labels), update_mask=mask)
        await self._client.call(self._client.content.Update, request)
