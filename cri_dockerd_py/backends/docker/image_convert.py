"""Docker's image documents as image records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cri_dockerd_py.backends.users import split_user
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.image_ref import normalize_reference

_NONE = "<none>"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an image that its id fixes for ever."""

    user: str
    stop_signal: str
    labels: Mapping[str, str]


def config_of(inspected: Mapping[str, Any]) -> ImageConfig:
    """Return the configuration in an image inspect document."""
    config = inspected.get("Config") or {}
    return ImageConfig(config.get("User") or "", config.get("StopSignal") or "", config.get("Labels") or {})


def image_record(document: Mapping[str, Any], config: ImageConfig, *, pinned_name: str) -> ImageRecord:
    """Return the record of an entry of the image list or of an inspect document (IMG-03, IMG-09, IMG-10)."""
    image_id = str(document["Id"])
    tags = names_of(document.get("RepoTags"), digests=False)
    digests = names_of(document.get("RepoDigests"), digests=True)
    uid, username = split_user(config.user)
    return ImageRecord(
        id=image_id,
        repo_tags=tags,
        repo_digests=_with_all_repositories(digests, tags, image_id),
        size_bytes=max(int(document.get("Size") or 0), 1),
        uid=uid,
        username=username,
        pinned=pinned_name in tags,
        stop_signal=config.stop_signal,
        labels=config.labels,
    )


def _with_all_repositories(digests: Sequence[str], tags: Sequence[str], image_id: str) -> tuple[str, ...]:
    """Return the digests in all repositories of an image; Docker lists one where the id is the digest, too."""
    if not any(digest.endswith(f"@{image_id}") for digest in digests):
        return tuple(digests)
    named = (f"{tag.rpartition(':')[0]}@{image_id}" for tag in tags)
    return tuple(dict.fromkeys((*digests, *named)))


def names_of(texts: Sequence[str] | None, *, digests: bool) -> tuple[str, ...]:
    """Return full references: of a list of tags those with a tag, of a list of digests those with a digest."""
    names = []
    for text in texts or ():
        if _NONE in text or ("@" in text) is not digests:
            continue
        try:
            names.append(normalize_reference(text))
        except InvalidArgument:
            continue
    return tuple(names)
