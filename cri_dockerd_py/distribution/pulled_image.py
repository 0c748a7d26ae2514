"""What a pull returns, and what it tells its caller while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from cri_dockerd_py.distribution.descriptor import Descriptor
from cri_dockerd_py.model.image_ref import ImageRef

#: Hears how many bytes of content have come from a registry since it heard last.
OnFetched = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class PulledImage:
    """The one image that was chosen for the platform, with all that names it.

    `target` is what the reference stands for: an index, or the manifest itself. `children` has, for the digest of the
    index and of the manifest, all that they name in document order: of an index its manifests (those of other platforms
    too, which are not fetched), of a manifest its config and then its layers. As many `diff_ids` as `layers`.
    """

    reference: ImageRef
    target: Descriptor
    manifest: Descriptor
    config: Descriptor
    config_bytes: bytes
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    children: Mapping[str, tuple[Descriptor, ...]]


class LayerHooks(Protocol):
    """What a caller decides about layers, and hears of them while the pull goes on."""

    async def wanted(self, image: PulledImage) -> Collection[int]:
        """Return the indices of the layers to fetch; called once, when manifest and config are in the sink."""

    def ready(self, index: int) -> None:
        """Hear that a wanted layer is in the sink: lower ones are fetched first, but any may be ready first."""


class AllLayers:
    """Fetches every layer and waits for nothing."""

    async def wanted(self, image: PulledImage) -> Collection[int]:
        """Return all."""
        return range(len(image.layers))

    def ready(self, index: int) -> None:
        """Do nothing."""
