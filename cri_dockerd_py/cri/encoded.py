"""Encoded messages, kept for as long as the immutable record that they were made from is the present one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from google.protobuf.message import Message

from cri_dockerd_py.cri import wire

RecordT = TypeVar("RecordT")


class EncodedRecords(Generic[RecordT]):
    """Bytes of one kind of message per object; entries of objects that are gone are dropped at the next miss."""

    def __init__(self, live: Callable[[], Mapping[str, object]], encode: Callable[[RecordT], bytes]) -> None:
        self._live = live
        self._encode = encode
        self._entries: dict[str, tuple[RecordT, bytes]] = {}

    def get(self, object_id: str, record: RecordT) -> bytes:
        """Return the message of this record."""
        entry = self._entries.get(object_id)
        if entry is not None and entry[0] is record:
            return entry[1]
        encoded = self._encode(record)
        self._entries[object_id] = (record, encoded)
        self.prune()
        return encoded

    def prune(self) -> None:
        """Drop the entries of objects that are gone."""
        live = self._live()
        if len(self._entries) > len(live):
            self._entries = {key: value for key, value in self._entries.items() if key in live}

    def __len__(self) -> int:
        return len(self._entries)


class EncodedList(Generic[RecordT]):
    """Items of a list reply (its field 1), one by one and as the reply that has all of them."""

    def __init__(self, live: Callable[[], Mapping[str, RecordT]], encode: Callable[[RecordT], Message]) -> None:
        self._live = live
        self._items = EncodedRecords[RecordT](live, lambda record: wire.sub_message(1, message_bytes(encode(record))))
        self._generation: int | None = None
        self._everything = b""

    def everything(self, generation: int) -> bytes:
        """Return the unfiltered reply, made anew when the generation has changed since."""
        if generation != self._generation:
            self._items.prune()
            self._everything = b"".join(self.items(self._live().items()))
            self._generation = generation
        return self._everything

    def items(self, objects: Iterable[tuple[str, RecordT]]) -> list[bytes]:
        """Return the items of these objects."""
        return [self._items.get(object_id, record) for object_id, record in objects]

    def __len__(self) -> int:
        return len(self._items)


class Remembered:
    """One reply, made anew when what it was made from is no longer equal."""

    def __init__(self) -> None:
        self._inputs: object = None
        self._reply = b""

    def get(self, inputs: object, make: Callable[[], Message]) -> bytes:
        """Return the reply for these inputs."""
        if inputs != self._inputs:
            self._reply = message_bytes(make())
            self._inputs = inputs
        return self._reply


def message_bytes(message: Message) -> bytes:
    """Return a message in wire form."""
    return message.SerializeToString()
