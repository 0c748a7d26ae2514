"""Finds images by every name that callers use (GEN-10, IMG-01, IMG-02)."""

from __future__ import annotations

from collections.abc import Mapping

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import id_prefix, normalize_reference

#: What an engine's image_ref in a container's status may begin with; people paste it into other calls.
_STATUS_PREFIXES = ("docker-pullable://", "docker://")


def find_image(images: Mapping[str, ImageRecord], text: str) -> ImageRecord | None:
    """Return the image that an id, an unambiguous prefix of one, a tag or a digest names; None when absent."""
    for prefix in _STATUS_PREFIXES:
        text = text.removeprefix(prefix)
    if (record := images.get(text)) is not None:
        return record
    reference = normalize_reference(text)
    for record in images.values():
        if reference in record.repo_tags or reference in record.repo_digests:
            return record
    id_start = id_prefix(text)
    return None if id_start is None else _by_prefix(images, id_start)


def _by_prefix(images: Mapping[str, ImageRecord], prefix: str) -> ImageRecord | None:
    matches = [record for image_id, record in images.items() if image_id.startswith(prefix)]
    if len(matches) > 1:
        raise InvalidArgument(f"image id {prefix!r} is ambiguous: it begins {len(matches)} ids; give more digits")
    return matches[0] if matches else None
