"""Whose credentials may be shown to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import DEFAULT_DOMAIN

_HTTPS_PORT = ":443"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to log in with: a secret with its user, a refresh token (a secret without user), or a ready token."""

    username: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    def hide(self, text: str) -> str:
        """Return `text`, which a registry sent, without the secrets that it may repeat."""
        for secret in (self.secret, self.bearer):
            if secret:
                text = text.replace(secret, "***")
        return text


NOBODY = Credentials()


def credentials_for(domain: str, auth: RegistryAuth | None) -> Credentials:
    """Return the credentials of a pull from `domain`; none when they are for another registry (IMG-37)."""
    if auth is None or not is_for(domain, auth.server_address):
        return NOBODY
    if auth.username:
        return Credentials(auth.username, auth.password)
    return Credentials(secret=auth.identity_token, bearer=auth.registry_token)


def is_for(domain: str, server_address: str) -> bool:
    """Whether credentials that name a server, or none, may be shown to the registry `domain`."""
    if not server_address:
        return True
    try:
        host = urlsplit(server_address if "//" in server_address else f"//{server_address}").netloc
    except ValueError:
        return False
    host = host.lower().rpartition("@")[2].removesuffix(_HTTPS_PORT)
    if domain == DEFAULT_DOMAIN:
        return host == DEFAULT_DOMAIN or host.endswith(f".{DEFAULT_DOMAIN}")
    return host == domain.lower().removesuffix(_HTTPS_PORT)
