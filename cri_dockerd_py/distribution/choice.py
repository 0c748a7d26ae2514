"""From what a reference stands for to the one image for a platform: index, manifest and config, fetched in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from cri_dockerd_py.distribution.blob_fetch import BlobFetch
from cri_dockerd_py.distribution.descriptor import Descriptor, Platform
from cri_dockerd_py.distribution.media_types import Kind, kind_of
from cri_dockerd_py.distribution.platform import in_order, suitable
from cri_dockerd_py.distribution.pulled_image import PulledImage
from cri_dockerd_py.distribution.rules.documents import BadDocument, parse_config, parse_index, parse_manifest
from cri_dockerd_py.errors import NotFound, Unknown

Argument = TypeVar("Argument")
Parsed = TypeVar("Parsed")
#: An index may name indexes; what is nested deeper, or suits less than so many others, is not looked at.
_DEPTH = 3
_CANDIDATES = 4


async def choose(fetch: BlobFetch, target: Descriptor, platform: Platform) -> PulledImage:
    """Return the image of `target` that suits `platform` best, its documents being in the sink.

    Raises NotFound when none suits, Unknown for documents that are no image.
    """
    return await _Choice(fetch, target, platform).image()


class _Choice:
    def __init__(self, fetch: BlobFetch, target: Descriptor, platform: Platform) -> None:
        self._fetch = fetch
        self._target = target
        self._platform = platform
        self._children: dict[str, tuple[Descriptor, ...]] = {}

    async def image(self) -> PulledImage:
        image = await self._descend(self._target, _DEPTH)
        if image is None:
            raise NotFound(f"{self._fetch.reference}: no image for {self._platform} found: it is made for others only")
        return image

    async def _descend(self, descriptor: Descriptor, depth: int) -> PulledImage | None:
        kind = kind_of(descriptor.media_type)
        if kind is Kind.MANIFEST:
            return await self._manifest(descriptor)
        if kind is not Kind.INDEX:
            raise self._no_image(f"its type is {descriptor.media_type[:100]!r}")
        content = await self._fetch.document(descriptor)
        index = self._parsed(parse_index, content, descriptor.media_type)
        self._children[descriptor.digest] = index.manifests
        for candidate in self._candidates(index.manifests, depth):
            image = await self._descend(candidate, depth - 1)
            if image is not None:
                return image
        return None

    def _candidates(self, manifests: Sequence[Descriptor], depth: int) -> Sequence[Descriptor]:
        kinds = {Kind.MANIFEST, Kind.INDEX} if depth > 1 else {Kind.MANIFEST}
        return [one for one in in_order(manifests, self._platform) if kind_of(one.media_type) in kinds][:_CANDIDATES]

    async def _manifest(self, descriptor: Descriptor) -> PulledImage | None:
        content = await self._fetch.document(descriptor)
        manifest = self._parsed(parse_manifest, content, descriptor.media_type)
        self._children[descriptor.digest] = (manifest.config, *manifest.layers)
        config_bytes = await self._fetch.document(manifest.config)
        facts = self._parsed(parse_config, config_bytes, len(manifest.layers))
        said = descriptor.platform or facts.platform
        if said is not None and said not in suitable(self._platform):
            return None
        return PulledImage(
            reference=self._fetch.reference,
            target=self._target,
            manifest=descriptor,
            config=manifest.config,
            config_bytes=config_bytes,
            layers=manifest.layers,
            diff_ids=facts.diff_ids,
            children=self._children,
        )

    def _parsed(self, parse: Callable[[bytes, Argument], Parsed], content: bytes, argument: Argument) -> Parsed:
        try:
            return parse(content, argument)
        except BadDocument as error:
            raise self._no_image(str(error)) from None

    def _no_image(self, why: str) -> Unknown:
        return Unknown(f"{self._fetch.reference} is no image that can be run: {why}")
