"""One pull: resolve, then index, manifest and config one after another, then the layers beside each other."""

from __future__ import annotations

from cri_dockerd_py.distribution.descriptor import Descriptor, Platform
from cri_dockerd_py.distribution.pulled_image import AllLayers, LayerHooks, Progress, PulledImage
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.distribution.sink import BlobSink
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import ImageRef


def _no_progress(descriptor: Descriptor, done: int, total: int) -> None:
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
    on_progress: Progress = _no_progress,
) -> PulledImage:
    """Fetch what `reference` means on `platform` into `sink`; cancelling closes every connection.

    Gives up after `stall_s` (0: never) in which requests were open and no byte came. Raises NotFound for what the
    registry does not have, Unknown with kubelet's word RegistryUnavailable for one that cannot be reached, Unknown
    for content that is not what it should be; what the sink raises goes through.
    """
    raise NotImplementedError((AllLayers, registry))
