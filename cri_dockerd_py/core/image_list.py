"""The images of all engines as one list: an image that several engines have appears once, under one id (IMG-67).

Two engines' images are one when their ids are equal, or when they share a repository digest: engines differ in what
they take for an id (configuration or manifest). Which id is shown is decided once and kept, as containers name it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cri_dockerd_py.core.image_lookup import find_image
from cri_dockerd_py.model.image import ImageRecord

Images = Mapping[str, ImageRecord]


@dataclass(eq=False, slots=True)
class Reading:
    """One look at all images of an engine. What changed here since it began, `newer`, is newer than what it sees."""

    engine: str
    newer: set[str] = field(default_factory=set)


class ImageList:
    """`generation` changes with every change of the merged list. Ids are shown ones unless an engine is named."""

    def __init__(self) -> None:
        self.generation = 0
        self.merged: dict[str, ImageRecord] = {}
        self._on: dict[str, dict[str, ImageRecord]] = {}
        self._preferred = ""
        self._shown: dict[str, str] = {}
        self._decided: dict[str, str] = {}
        self._digests: dict[str, tuple[str, ...]] = {}
        self._own: dict[str, dict[str, ImageRecord]] = {}
        #: Those that are under way, in the order in which they began.
        self._readings: list[Reading] = []

    # --- reading

    def on(self, engine: str) -> Images:
        """Return one engine's images by its own ids."""
        return self._on.get(engine, {})

    def shown_on(self, engine: str) -> Images:
        """Return one engine's images by the ids under which they are shown; the records have its own ids."""
        return self._own.get(engine, {})

    def shown_id(self, image_id: str) -> str:
        """Return the id under which an engine's image is shown."""
        return self._shown.get(image_id, image_id)

    def owners(self, image_id: str) -> Images:
        """Return engine → its own record of the image."""
        return {engine: records[image_id] for engine, records in self._own.items() if image_id in records}

    def find(self, text: str) -> ImageRecord | None:
        """Return the image that an id, a prefix of one, or a reference names; InvalidArgument if it can be none."""
        record = find_image(self.merged, text)
        if record is None and self._shown:
            record = find_image({alias: self.merged[shown] for alias, shown in self._live_aliases()}, text)
        return record

    def find_on(self, engine: str, text: str) -> ImageRecord | None:
        """Return the engine's own record of the image that `text` names, None where that engine has not got it.

        What the engine itself calls by a reference is meant, also where another engine has another image of that name.
        """
        record = find_image(self.on(engine), text)
        if record is not None:
            return record
        found = self.find(text)
        return None if found is None else self._own.get(engine, {}).get(found.id)

    def _live_aliases(self) -> list[tuple[str, str]]:
        return [(alias, shown) for alias, shown in self._shown.items() if shown in self.merged]

    # --- changing

    def take_decided(self) -> Mapping[str, str]:
        """Return what was decided since the last time, engine's id → shown id, to be put on record."""
        decided, self._decided = self._decided, {}
        return decided

    def restore(self, aliases: Mapping[str, str]) -> None:
        """Take over what was decided before."""
        self._shown.update(aliases)

    def know_digests(self, image_id: str, names: Iterable[str]) -> None:
        """Add `repository@digest` names to an engine's image, now and whenever it is listed without them."""
        self._digests[image_id] = tuple(dict.fromkeys((*self._digests.get(image_id, ()), *names)))
        for engine, images in self._on.items():
            if image_id in images:
                self.put(engine, images[image_id])

    def know_copy(self, image_id: str, copy_id: str) -> None:
        """Show an engine's image as the one that it is a copy of, from its next listing on; both ids are engines'."""
        shown = self.shown_id(image_id)
        if shown != copy_id and copy_id not in self._shown:
            self._shown[copy_id] = self._decided[copy_id] = shown

    def _completed(self, record: ImageRecord) -> ImageRecord:
        """Return an engine's image with the digests that the engine could not keep."""
        known = self._digests.get(record.id)
        if known is None:
            return record
        return replace(record, repo_digests=tuple(dict.fromkeys((*record.repo_digests, *known))))

    def prefer(self, engine: str) -> None:
        """Let this engine's names win where engines disagree: the next container is made there."""
        if engine != self._preferred:
            self._preferred = engine
            self._merge()

    @contextlib.contextmanager
    def reading(self, engine: str) -> Iterator[Reading]:
        """Around a call that reads all images of an engine, and `put_all` of its answer."""
        reading = Reading(engine)
        self._readings.append(reading)
        try:
            yield reading
        finally:
            self._readings.remove(reading)

    def put_all(self, reading: Reading, images: Iterable[ImageRecord]) -> None:
        """Replace all images of an engine but those that changed after the reading began."""
        engine, newer = reading.engine, reading.newer
        present = self._on.get(engine, {})
        fresh = {record.id: self._completed(record) for record in images if record.id not in newer}
        fresh.update({image_id: present[image_id] for image_id in newer if image_id in present})
        if engine not in self._on or fresh != present:
            changed = [image_id for image_id in {*fresh, *present} if fresh.get(image_id) != present.get(image_id)]
            self._touch(engine, *changed, before=reading)
            self._on[engine] = fresh
            self._merge()

    def put(self, engine: str, record: ImageRecord) -> None:
        """Put one image of an engine, and take its tags away from that engine's others (IMG-32)."""
        images = self._on.setdefault(engine, {})
        tags = set(record.repo_tags)
        self._touch(engine, record.id)
        for other in list(images.values()):
            if other.id != record.id and tags.intersection(other.repo_tags):
                kept = tuple(tag for tag in other.repo_tags if tag not in tags)
                images[other.id] = replace(other, repo_tags=kept)
                self._touch(engine, other.id)
        images[record.id] = self._completed(record)
        self._merge()

    def drop(self, engine: str, image_id: str) -> None:
        """Forget an image of an engine, by the engine's own id."""
        self._touch(engine, image_id)
        if self._on.get(engine, {}).pop(image_id, None) is not None:
            self._merge()

    def _touch(self, engine: str, *image_ids: str, before: Reading | None = None) -> None:
        """Let the readings that began before, all if none is named, leave these images as they are."""
        for reading in self._readings:
            if reading is before:
                return
            if reading.engine == engine:
                reading.newer.update(image_ids)

    # --- merging

    def _merge(self) -> None:
        engines = sorted(self._on, key=lambda engine: engine != self._preferred)
        self._link(engines)
        self._own = {}
        merged: dict[str, ImageRecord] = {}
        tagged: dict[str, str] = {}
        for engine in engines:
            own = self._own[engine] = {}
            for record in self._on[engine].values():
                image_id = self._shown.get(record.id, record.id)
                own[image_id] = record
                tags = tuple(tag for tag in record.repo_tags if tagged.setdefault(tag, image_id) == image_id)
                known = merged.get(image_id)
                if known is None:
                    merged[image_id] = replace(record, id=image_id, repo_tags=tags)
                else:
                    merged[image_id] = _joined(known, record, tags)
        if merged != self.merged:
            self.merged = merged
            self.generation += 1

    def _link(self, engines: list[str]) -> None:
        """Decide which id is shown for images that engines have under several; what is listed already is kept."""
        if len(engines) < 2:
            return
        by_digest: dict[str, tuple[str, str]] = {}
        records = [(engine, record) for engine in engines for record in self._on[engine].values()]
        records.sort(key=lambda pair: self._shown.get(pair[1].id, pair[1].id) not in self.merged)
        for engine, record in records:
            image_id = self._shown.get(record.id, record.id)
            for digest in record.repo_digests:
                other_engine, other_id = by_digest.setdefault(digest, (engine, image_id))
                if other_engine != engine and other_id != image_id and record.id not in self._shown:
                    image_id = self._shown[record.id] = self._decided[record.id] = other_id


def _joined(known: ImageRecord, other: ImageRecord, tags: tuple[str, ...]) -> ImageRecord:
    """Return an image that two engines have: both copies take room, and both go when it is removed."""
    return replace(
        known,
        repo_tags=tuple(dict.fromkeys((*known.repo_tags, *tags))),
        repo_digests=tuple(dict.fromkeys((*known.repo_digests, *other.repo_digests))),
        size_bytes=known.size_bytes + other.size_bytes,
        pinned=known.pinned or other.pinned,
    )
