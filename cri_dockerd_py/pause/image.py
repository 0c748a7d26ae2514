"""The built-in pause image, as a tar that an engine can load."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image

PAUSE_IMAGE_NAME = "cri-dockerd-py/pause:1"
_ARCHITECTURES = {"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}


@cache
def pause_image(arch: str) -> BuiltImage:
    """Return the pause image for an architecture, named as images or as kernels name it."""
    known = _ARCHITECTURES.get(arch)
    if known is None:
        raise ValueError(
            f"there is no built-in pause image for architecture {arch!r} (only for {', '.join(_ARCHITECTURES)}); "
            "set pod_infra_container_image to an image that runs there"
        )
    binary = files("cri_dockerd_py.pause").joinpath(f"pause-{known}").read_bytes()
    config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
    return build_image({"pause": LayerFile(binary, 0o555)}, config, known)


def pause_image_tar(arch: str) -> bytes:
    """Return the tar to load; its image's id is the same on every node."""
    return pause_image(arch).docker_archive([PAUSE_IMAGE_NAME])
