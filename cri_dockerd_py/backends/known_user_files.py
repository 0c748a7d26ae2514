"""The user files of images that were read already: an image never changes."""

from __future__ import annotations

from cri_dockerd_py.backends.users import UserFiles

_IMAGES_LIMIT = 512
_KEPT_LIMIT = 64 << 10


class KnownUserFiles:
    """Keeps those of ordinary size; unusually large ones, of which a few would fill the memory, are read again."""

    def __init__(self) -> None:
        self._known: dict[str, UserFiles] = {}

    def get(self, image_id: str) -> UserFiles | None:
        """Return an image's files, None where they have to be read."""
        return self._known.get(image_id)

    def keep(self, image_id: str, files: UserFiles) -> None:
        """Remember an image's files."""
        if len(files.passwd) + len(files.group) > _KEPT_LIMIT:
            return
        if len(self._known) >= _IMAGES_LIMIT:
            self._known.clear()
        self._known[image_id] = files
