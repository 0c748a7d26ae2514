"""Pulls as tests make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cri_dockerd_py.distribution.descriptor import Platform
from cri_dockerd_py.distribution.pull import pull
from cri_dockerd_py.distribution.pulled_image import PulledImage
from cri_dockerd_py.distribution.registry import Registry
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import parse_reference
from tests.distribution.images import REPOSITORY
from tests.distribution.memory_sink import MemorySink

AMD64 = Platform("linux", "amd64")


class Puller:
    """Pulls into `sink` and counts the bytes that came; `roots` are directories that configure registries."""

    def __init__(self, sink: MemorySink, roots: Sequence[Path] = ()) -> None:
        self.sink = sink
        self.registry = Registry(roots)
        self.pieces: list[int] = []

    async def __call__(
        self, domain: str, name: str = ":1", auth: RegistryAuth | None = None, **options: Any
    ) -> PulledImage:
        reference = parse_reference(f"{domain}/{REPOSITORY}{name}")
        options = {"platform": AMD64, "on_fetched": self.pieces.append, **options}
        return await pull(self.registry, reference, auth, self.sink, **options)
