"""Image references: parsed, normalised and compared as Docker does (IMG-01, IMG-02), and ids of images (GEN-10)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cri_dockerd_py.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_NAME_LIMIT = 255
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})")
_ID = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A repository with a digest, or else a tag: never both, since a digest decides."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The full name of the repository."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as Docker shows it: without the parts that it adds by itself."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        single = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in single else single

    @property
    def familiar(self) -> str:
        """The whole reference as Docker shows it."""
        return self.familiar_repository + self._suffix

    @property
    def _suffix(self) -> str:
        return f"@{self.digest}" if self.digest else f":{self.tag}"

    def __str__(self) -> str:
        return self.repository + self._suffix


def parse_reference(text: str) -> ImageRef:
    """Return the reference that `text` stands for, or raise InvalidArgument."""
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _refused(text, "what follows '@' must be a digest such as sha256:<64 hex digits>")
    slash = name.rfind("/")
    colon = name.rfind(":")
    tag = ""
    if colon > slash:
        name, tag = name[:colon], name[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise _refused(text, "a tag has at most 128 letters, digits, '_', '.' and '-'")
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
        raise _refused(text, "a name is made of lower-case words that are separated by '/', '.', '_' or '-'")
    if len(domain) + 1 + len(path) > _NAME_LIMIT:
        raise _refused(text, f"a name has at most {_NAME_LIMIT} characters")
    return ImageRef(domain, path, digest=digest) if digest else ImageRef(domain, path, tag or DEFAULT_TAG)


def normalize_reference(text: str) -> str:
    """Return the full form, such as `docker.io/library/nginx:latest`, or raise InvalidArgument."""
    return str(parse_reference(text))


def same_reference(one: str, other: str) -> bool:
    """Whether two references mean the same; text that is no reference equals nothing."""
    try:
        return parse_reference(one) == parse_reference(other)
    except InvalidArgument:
        return False


def id_prefix(text: str) -> str | None:
    """Return `sha256:<hex>` when `text` can be an image id or the beginning of one, with or without `sha256:`."""
    match = _ID.fullmatch(text)
    return f"sha256:{match[1]}" if match else None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first != first.lower()):
        first, rest = DEFAULT_DOMAIN, name
    if first == _LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _refused(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{text[:300]!r} is not an image reference: {why}")
