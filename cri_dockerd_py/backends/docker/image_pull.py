"""One pull: Docker's progress stream followed to its end, given up when it makes no progress."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cri_dockerd_py.backends.docker.client import DockerClient
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
_DOWNLOADED = frozenset({"Extracting", "Pull complete", "Already exists", "Download complete", "Verifying Checksum"})
_WAITING = ("Retrying in", "Waiting")
_ABOUT_THE_IMAGE = ("Pulling from", "Digest:", "Status:")
_HUB_ADDRESS = "https://index.docker.io/v1/"


async def pull(client: DockerClient, reference: ImageRef, auth: RegistryAuth | None, stall_s: float) -> None:
    """Fetch and unpack; cancelling closes the stream, which makes Docker stop."""
    params = {"fromImage": reference.familiar_repository, "tag": reference.digest or reference.tag}
    headers = {"X-Registry-Auth": auth_header(reference, auth)}
    progress = PullProgress()
    try:
        async with asyncio.timeout(stall_s or None) as watch:
            async with client.stream("POST", "/images/create", params=params, headers=headers) as messages:
                async for message in messages:
                    if progress.take(message):
                        watch.reschedule(_deadline(stall_s, progress))
    except TimeoutError:
        raise Unknown(
            f"RegistryUnavailable: the pull of {reference} made no progress for {stall_s:g} s and was given up; "
            f"see image_pull_progress_deadline"
        ) from None
    except (Unavailable, NotFound, InvalidArgument):
        raise
    except CriError as error:
        raise pull_error(str(error), 0) from error


def _deadline(stall_s: float, progress: PullProgress) -> float | None:
    """Unpacking may take as long as it likes (IMG-33)."""
    if not stall_s or progress.unpacking:
        return None
    return asyncio.get_running_loop().time() + stall_s


class PullProgress:
    """Follows the layers, and finds the error in the stream."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[str, int]] = {}

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
        state = (status, int((message.get("progressDetail") or {}).get("current") or 0))
        changed = self._layers.get(layer) != state
        self._layers[layer] = state
        return changed


def pull_error(text: str, code: int) -> CriError:
    """Return the error for a failed pull; the prefix is what callers look for (IMG-41)."""
    lowered = text.lower()
    if code in _UNAVAILABLE_CODES or any(sign in lowered for sign in _UNREACHABLE):
        return Unknown(f"RegistryUnavailable: {text}")
    if any(sign in lowered for sign in _ABSENT):
        return NotFound(text)
    return Unknown(text)


def auth_header(reference: ImageRef, auth: RegistryAuth | None) -> str:
    """Return X-Registry-Auth; credentials for another registry are left out (IMG-37)."""
    fields: dict[str, str] = {}
    if auth is not None and _is_for(reference, auth.server_address):
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


def _is_for(reference: ImageRef, server_address: str) -> bool:
    if not server_address:
        return True
    host = urlsplit(server_address if "//" in server_address else f"//{server_address}").netloc
    if reference.domain == DEFAULT_DOMAIN:
        return host.endswith(DEFAULT_DOMAIN)
    return host == reference.domain
