"""One pull: Docker's progress stream followed to its end, given up when it makes no progress."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.distribution.rules.answers import UNAVAILABLE
from cri_dockerd_py.distribution.rules.credentials import is_for
from cri_dockerd_py.errors import CriError, InvalidArgument, NotFound, Unavailable, Unknown
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import DEFAULT_DOMAIN, ImageRef

_UNREACHABLE = (
    "connection refused",
    "connection reset",
    "no such host",
    "i/o timeout",
    "tls handshake timeout",
    "network is unreachable",
    "no route to host",
    "server misbehaving",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway",
    "client.timeout exceeded",
)
_ABSENT = ("manifest unknown", "not found", "no matching manifest")
_UNAVAILABLE_CODES = frozenset({502, 503, 504})
_THERE = "Already exists"
_DOWNLOADED = frozenset({"Extracting", "Pull complete", _THERE, "Download complete", "Verifying Checksum"})
_WAITING = ("Retrying in", "Waiting")
_ABOUT_THE_IMAGE = ("Pulling from", "Digest:", "Status:")
_HUB_ADDRESS = "https://index.docker.io/v1/"


class Pulls:
    """Pulls by one daemon. `stall_s` is how long one may make no progress, 0 for ever; `on_fetched` hears of bytes."""

    def __init__(self, client: DockerClient, stall_s: float, on_fetched: Callable[[int], None]) -> None:
        self._client = client
        self._stall_s = stall_s
        self._on_fetched = on_fetched

    async def pull(self, reference: ImageRef, auth: RegistryAuth | None) -> None:
        """Fetch and unpack; cancelling closes the stream, which makes Docker stop."""
        params = {"fromImage": reference.familiar_repository, "tag": reference.digest or reference.tag}
        headers = {"X-Registry-Auth": auth_header(reference, auth)}
        progress = PullProgress()
        try:
            async with asyncio.timeout(self._stall_s or None) as watch:
                async with self._client.stream("POST", "/images/create", params=params, headers=headers) as messages:
                    async for message in messages:
                        if progress.take(message):
                            watch.reschedule(self._deadline(progress))
        except TimeoutError:
            raise Unknown(
                f"{UNAVAILABLE}: the pull of {reference} made no progress for {self._stall_s:g} s and was given up; "
                f"see image_pull_progress_deadline"
            ) from None
        except (Unavailable, NotFound, InvalidArgument):
            raise
        except CriError as error:
            raise pull_error(str(error), 0) from error
        finally:
            self._on_fetched(progress.fetched_bytes)

    def _deadline(self, progress: PullProgress) -> float | None:
        """Unpacking may take as long as it likes (IMG-33)."""
        if not self._stall_s or progress.unpacking:
            return None
        return asyncio.get_running_loop().time() + self._stall_s


class PullProgress:
    """Follows the layers, and finds the error in the stream."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[str, int]] = {}
        self._sizes: dict[str, int] = {}
        self._fetched: dict[str, int] = {}

    @property
    def fetched_bytes(self) -> int:
        """What was downloaded of layers, as far as Docker has told.

        A size is told when a layer is under way or unpacked; with containerd's store only while it is under way, so
        that layers which come within a tenth of a second are not counted there.
        """
        return sum(self._fetched.values())

    @property
    def unpacking(self) -> bool:
        """Whether all that is to be downloaded is here, and is being unpacked."""
        states = [status for status, _ in self._layers.values()]
        return bool(states) and all(status in _DOWNLOADED for status in states)

    def take(self, message: Mapping[str, Any]) -> bool:
        """Return whether the message tells of progress, rather than of waiting or trying again."""
        detail = message.get("errorDetail") or {}
        if detail or "error" in message:
            raise pull_error(str(detail.get("message") or message.get("error")), int(detail.get("code") or 0))
        layer, status = str(message.get("id") or ""), str(message.get("status") or "")
        if status.startswith(_WAITING):
            return False
        if not layer or status.startswith(_ABOUT_THE_IMAGE):
            return True
        amounts = message.get("progressDetail") or {}
        state = (status, int(amounts.get("current") or 0))
        self._count(layer, *state, int(amounts.get("total") or 0))
        changed = self._layers.get(layer) != state
        self._layers[layer] = state
        return changed

    def _count(self, layer: str, status: str, current: int, total: int) -> None:
        self._sizes[layer] = max(total, self._sizes.get(layer, 0))
        if status == "Downloading":
            self._fetched[layer] = current
        elif status in _DOWNLOADED and status != _THERE:
            self._fetched[layer] = self._sizes[layer]


def pull_error(text: str, code: int) -> CriError:
    """Return the error for a failed pull; the prefix is what callers look for (IMG-41)."""
    said = text.removeprefix(f"{UNAVAILABLE}: ")
    lowered = said.lower()
    if said != text or code in _UNAVAILABLE_CODES or any(sign in lowered for sign in _UNREACHABLE):
        return Unknown(f"{UNAVAILABLE}: {said}")
    if any(sign in lowered for sign in _ABSENT):
        return NotFound(text)
    return Unknown(text)


def auth_header(reference: ImageRef, auth: RegistryAuth | None) -> str:
    """Return X-Registry-Auth; credentials for another registry are left out (IMG-37)."""
    fields: dict[str, str] = {}
    if auth is not None and is_for(reference.domain, auth.server_address):
        address = _HUB_ADDRESS if reference.domain == DEFAULT_DOMAIN else reference.domain
        fields = {
            "username": auth.username,
            "password": auth.password,
            "identitytoken": auth.identity_token,
            "registrytoken": auth.registry_token,
            "serveraddress": address,
        }
    text = json.dumps({key: value for key, value in fields.items() if value})
    return base64.urlsafe_b64encode(text.encode()).decode()
