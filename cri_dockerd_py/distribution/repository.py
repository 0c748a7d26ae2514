"""One repository during one pull: hosts asked in order, logged in to, and what they answer checked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cri_dockerd_py.distribution.authorizer import Authorizer, LoginFailed
from cri_dockerd_py.distribution.descriptor import Descriptor, digest_of, is_digest, matches
from cri_dockerd_py.distribution.media_types import (
    ACCEPT_MANIFESTS,
    INDEXES,
    MANIFESTS,
    essence,
)
from cri_dockerd_py.distribution.rules.answers import Failure, Step, error_for, judge, text_of
from cri_dockerd_py.distribution.rules.credentials import Credentials
from cri_dockerd_py.distribution.rules.documents import DOCUMENT_LIMIT_BYTES, BadDocument, media_type_in
from cri_dockerd_py.distribution.rules.hosts import Capability, RegistryHost, able
from cri_dockerd_py.distribution.rules.ranges import WrongPart, bytes_to_skip, range_header
from cri_dockerd_py.distribution.transport import Answer, Transport, Unreachable
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image_ref import ImageRef

Result = TypeVar("Result")
_ERROR_BODY_BYTES = 8 << 10
_LOGINS = 2
_ANSWERED = 200
_MANIFESTS = "manifests"
_BLOBS = "blobs"
_ACCEPT = {"Accept": ACCEPT_MANIFESTS}
_DIGEST_HEADER = "Docker-Content-Digest"
_LONGEST_NUMBER = 19


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference stands for now, and the host that said so."""

    descriptor: Descriptor
    host: str


@dataclass(frozen=True, slots=True)
class Body:
    """A blob's bytes from the wanted offset on, after `skip` that come before; `answer.close` must be called."""

    answer: Answer
    skip: int
    host: str


class Repository:
    """Asks for one reference's content; every call raises what `answers.error_for` makes of the hosts' failures."""

    def __init__(
        self,
        reference: ImageRef,
        hosts: Iterable[RegistryHost],
        transport: Transport,
        credentials: Credentials,
    ) -> None:
        self.reference = reference
        self._hosts = tuple(hosts)
        self._transport = transport
        self._credentials = credentials
        self._authorizer = Authorizer(credentials, reference.path, transport)
        self._held: dict[str, bytes] = {}
        self._doubtful: set[str] = set()

    def doubt(self, host: str) -> None:
        """Ask a host only after all others from now on: it is down, or what it sent is wrong."""
        self._doubtful.add(host)

    async def resolve(self) -> Resolved:
        """Return what the reference stands for."""
        needed = Capability.PULL if self.reference.digest else Capability.PULL | Capability.RESOLVE
        return await self._walk(str(self.reference), needed, self._resolve_at)

    async def document(self, descriptor: Descriptor) -> bytes:
        """Return an index, a manifest or a config, its size and digest verified."""
        if descriptor.size > DOCUMENT_LIMIT_BYTES:
            raise Unknown(
                f"{self._name(descriptor)} is no image that can be run: a document of {descriptor.size} bytes is larger"
                f" than any that is read"
            )
        held = self._held.get(descriptor.digest)
        if held is not None:
            return held

        async def fetch(host: RegistryHost, last: bool) -> bytes | Failure:
            return await self._document_at(host, last, descriptor)

        return await self._walk(self._name(descriptor), Capability.PULL, fetch)

    async def body(self, descriptor: Descriptor, offset: int) -> Body:
        """Return a blob from `offset` on, opened and not read."""

        async def start(host: RegistryHost, last: bool) -> Body | Failure:
            url = host.url(self.reference.path, _BLOBS, descriptor.digest, self.reference.domain)
            answer = await self._ask(host, url, "GET", last, range_header(offset), pinned=True)
            return answer if isinstance(answer, Failure) else _body(answer, descriptor, offset, host.address)

        return await self._walk(self._name(descriptor), Capability.PULL, start)

    async def _resolve_at(self, host: RegistryHost, last: bool) -> Resolved | Failure:
        name = self.reference.digest or self.reference.tag
        url = host.url(self.reference.path, _MANIFESTS, name, self.reference.domain)
        answer = await self._ask(host, url, "HEAD", last, _ACCEPT, pinned=bool(self.reference.digest))
        if isinstance(answer, Failure):
            return answer
        described = None if answer.has_body else self._described(answer)
        if described is None and not answer.has_body:
            answer.close()
            answer = await self._ask(host, url, "GET", last, _ACCEPT, pinned=bool(self.reference.digest))
            if isinstance(answer, Failure):
                return answer
        try:
            if described is None:
                described = await self._read_to_describe(answer)
        except Unreachable as error:
            return Failure(host.address, 0, str(error))
        except BadDocument as error:
            return Failure(host.address, _ANSWERED, f"this is no image: {error}")
        finally:
            answer.close()
        return Resolved(described, host.address)

    def _described(self, answer: Answer) -> Descriptor | None:
        """Return what the headers say of a manifest, None when they do not say enough or cannot be right."""
        media_type, digest = essence(answer.headers.get("Content-Type", "")), answer.headers.get(_DIGEST_HEADER, "")
        length = answer.headers.get("Content-Length", "")
        if media_type not in INDEXES | MANIFESTS or not is_digest(digest) or not length.isdecimal():
            return None
        size = int(length[:_LONGEST_NUMBER])
        if not 0 < size <= DOCUMENT_LIMIT_BYTES or self.reference.digest not in ("", digest):
            return None
        return Descriptor(media_type, digest, size)

    async def _read_to_describe(self, answer: Answer) -> Descriptor:
        content = await answer.read(DOCUMENT_LIMIT_BYTES)
        said_digest = answer.headers.get(_DIGEST_HEADER, "")
        digest = self.reference.digest or (said_digest if is_digest(said_digest) else digest_of(content))
        if len(content) > DOCUMENT_LIMIT_BYTES:
            raise BadDocument(f"it is larger than {DOCUMENT_LIMIT_BYTES} bytes")
        if not matches(content, digest):
            raise BadDocument(f"its content is not that of its digest {digest}")
        media_type = essence(answer.headers.get("Content-Type", ""))
        if media_type not in INDEXES | MANIFESTS:
            media_type = media_type_in(content)
        if not media_type:
            raise BadDocument("it is neither an index nor a manifest of a known type; schema 1 is no longer supported")
        self._held[digest] = content
        return Descriptor(media_type, digest, len(content))

    async def _document_at(self, host: RegistryHost, last: bool, descriptor: Descriptor) -> bytes | Failure:
        is_manifest = descriptor.media_type in INDEXES | MANIFESTS
        kind, accept = (_MANIFESTS, {"Accept": descriptor.media_type}) if is_manifest else (_BLOBS, {})
        url = host.url(self.reference.path, kind, descriptor.digest, self.reference.domain)
        content = await self._content(host, url, last, accept, descriptor.size)
        if isinstance(content, Failure) and not content.status:
            content = await self._content(host, url, last, accept, descriptor.size)
        if isinstance(content, Failure):
            return content
        if len(content) != descriptor.size or not matches(content, descriptor.digest):
            return Failure(host.address, _ANSWERED, "its content is not what size and digest promise")
        return content

    async def _content(
        self, host: RegistryHost, url: str, last: bool, accept: Mapping[str, str], size: int
    ) -> bytes | Failure:
        answer = await self._ask(host, url, "GET", last, accept, pinned=True)
        if isinstance(answer, Failure):
            return answer
        try:
            return await answer.read(size)
        except Unreachable as error:
            return Failure(host.address, 0, str(error))
        finally:
            answer.close()

    async def _walk(
        self,
        what: str,
        needed: Capability,
        ask: Callable[[RegistryHost, bool], Awaitable[Result | Failure]],
    ) -> Result:
        """Return the first host's answer that is no failure; `ask` hears whether its host is the last one."""
        failures: list[Failure] = []
        hosts = sorted(able(self._hosts, needed), key=lambda host: host.address in self._doubtful)
        for number, host in enumerate(hosts, start=1):
            result = await ask(host, number == len(hosts))
            if not isinstance(result, Failure):
                return result
            failures.append(result)
            if not result.status:
                self.doubt(host.address)
        raise error_for(what, failures)

    async def _ask(
        self,
        host: RegistryHost,
        url: str,
        method: str,
        last: bool,
        headers: Mapping[str, str],
        *,
        pinned: bool,
    ) -> Answer | Failure:
        """Return one host's answer, which is a success, after logins and second tries."""
        logins, seen = 0, set[int]()
        for attempt in itertools.count(1):
            shown = self._authorizer.header(host)
            try:
                answer = await self._transport.get(
                    host, url, method=method, headers=headers, authorization=shown, pinned=pinned
                )
            except Unreachable as error:
                if attempt == 1 and error.may_pass:
                    continue
                return Failure(host.address, 0, str(error))
            retry_after = answer.headers.get("Retry-After", "")
            verdict = judge(answer.status, method, attempt, last_host=last, seen=seen, retry_after=retry_after)
            if verdict.step is Step.USE:
                return answer
            seen.add(answer.status)
            failure = await self._failure(host, answer)
            if verdict.step is Step.ASK_WITH_GET:
                method = "GET"
            elif verdict.step is Step.AGAIN:
                await asyncio.sleep(verdict.wait_s)
            elif verdict.step is Step.LOG_IN and answer.at_home and logins < _LOGINS:
                logins += 1
                demands = answer.headers.getall("WWW-Authenticate", [])
                try:
                    await self._authorizer.log_in(host, demands, shown, secure=answer.secure)
                except LoginFailed as refused:
                    return refused.failure
            else:
                return failure
        raise AssertionError("every answer leads somewhere")

    async def _failure(self, host: RegistryHost, answer: Answer) -> Failure:
        try:
            body = await answer.read(_ERROR_BODY_BYTES)
        except Unreachable:
            body = b""
        finally:
            answer.close()
        return Failure(host.address, answer.status, self._credentials.hide(text_of(answer.status, body)))

    def _name(self, descriptor: Descriptor) -> str:
        return f"{self.reference.repository}@{descriptor.digest}"


def _body(answer: Answer, descriptor: Descriptor, offset: int, host: str) -> Body | Failure:
    content_range, length = (answer.headers.get(name, "") for name in ("Content-Range", "Content-Length"))
    try:
        return Body(answer, bytes_to_skip(answer.status, content_range, length, offset, descriptor.size), host)
    except WrongPart as error:
        answer.close()
        return Failure(host, _ANSWERED, str(error))
