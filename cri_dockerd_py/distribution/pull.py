"""One pull: resolve, then index, manifest and config one after another, then the layers beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from cri_dockerd_py.distribution.blob_fetch import BlobFetch
from cri_dockerd_py.distribution.choice import choose
from cri_dockerd_py.distribution.descriptor import Platform
from cri_dockerd_py.distribution.pulled_image import AllLayers, LayerHooks, OnFetched, PulledImage
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.distribution.sink import BlobSink
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import ImageRef


def _untold(fetched_bytes: int) -> None:
    """Tell nobody."""


async def pull(
    registry: Registry,
    reference: ImageRef,
    auth: RegistryAuth | None,
    sink: BlobSink,
    *,
    platform: Platform,
    layers: LayerHooks | None = None,
    stall_s: float = 0.0,
    max_parallel: int = 3,
    on_fetched: OnFetched = _untold,
) -> PulledImage:
    """Fetch what `reference` means on `platform` into `sink`; cancelling closes every connection.

    Gives up after `stall_s` (0: never) in which requests were open and no byte came. Raises NotFound for what the
    registry does not have, Unknown with kubelet's word RegistryUnavailable for one that cannot be reached, Unknown
    for content that is not what it should be; what the sink and the hooks raise goes through.
    """
    hooks = layers or AllLayers()
    async with registry.open(reference, auth, stall_s) as repository:
        fetch = BlobFetch(repository, sink, on_fetched, max_parallel)
        resolved = await repository.resolve()
        image = await choose(fetch, resolved.descriptor, platform)
        await _fetch_layers(fetch, image, await hooks.wanted(image), hooks)
        return image


async def _fetch_layers(fetch: BlobFetch, image: PulledImage, wanted: Collection[int], hooks: LayerHooks) -> None:
    places: dict[str, list[int]] = {}
    for index in sorted(wanted):
        places.setdefault(image.layers[index].digest, []).append(index)

    async def one(indices: list[int]) -> None:
        await fetch.blob(image.layers[indices[0]])
        for index in indices:
            hooks.ready(index)

    try:
        async with asyncio.TaskGroup() as jobs:
            for digest, indices in places.items():
                jobs.create_task(one(indices), name=f"fetch {digest}")
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
