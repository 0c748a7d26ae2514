"""CRI ImageService: the index of its RPCs, each one decode, call, encode (see `runtime_service`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri import wire
from cri_dockerd_py.cri.decode.image import image_spec, registry_auth
from cri_dockerd_py.cri.decode.sandbox import pull_sandbox
from cri_dockerd_py.cri.encode.image import filesystem_usage
from cri_dockerd_py.cri.encode.text import verbose_info
from cri_dockerd_py.cri.inventory_replies import InventoryReplies
from cri_dockerd_py.cri.node import Node


class ImageService:
    """The images on this node."""

    def __init__(self, node: Node, replies: InventoryReplies) -> None:
        self._node = node
        self._replies = replies

    def ListImages(self, request: pb.ListImagesRequest) -> bytes:
        return self._replies.list_images(request.filter)

    async def StreamImages(self, request: pb.StreamImagesRequest) -> AsyncGenerator[bytes, None]:
        for chunk in wire.chunks(self._replies.image_items(request.filter)):
            yield chunk

    async def ImageStatus(self, request: pb.ImageStatusRequest) -> bytes:
        record = self._node.images.find(image_spec("image", request.image).image)
        if record is None:
            return b""
        reply = self._replies.image_status(record)
        return reply + verbose_info({"info": await self._node.images.verbose(record.id)}) if request.verbose else reply

    async def PullImage(self, request: pb.PullImageRequest) -> pb.PullImageResponse:
        sandbox = pull_sandbox(request.sandbox_config) if request.HasField("sandbox_config") else None
        spec, auth = image_spec("image", request.image), registry_auth(request.auth)
        return pb.PullImageResponse(image_ref=await self._node.images.pull(spec, auth, sandbox))

    async def RemoveImage(self, request: pb.RemoveImageRequest) -> bytes:
        await self._node.images.remove(image_spec("image", request.image).image)
        return b""

    def ImageFsInfo(self, request: pb.ImageFsInfoRequest) -> pb.ImageFsInfoResponse:
        images, containers = self._node.images.filesystems()
        return pb.ImageFsInfoResponse(
            image_filesystems=[filesystem_usage(usage) for usage in images],
            container_filesystems=[filesystem_usage(usage) for usage in containers],
        )
