"""Descriptors: what a registry's documents say of a blob before anybody has it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on; in normal form, as `platform.normalize` makes it."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob: its kind, its digest (`sha256:<hex>`) and its exact size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None


def is_digest(text: object) -> bool:
    """Whether this is a digest of a kind that can be verified here."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of `content`."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def matches(content: bytes, digest: str) -> bool:
    """Whether `content` is what `digest` names."""
    return digest_of(content, digest.partition(":")[0]) == digest
