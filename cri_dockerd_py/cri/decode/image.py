"""Image specs and registry credentials. No message ever shows a secret."""

from __future__ import annotations

import base64
import binascii

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import ImageSpec
from cri_dockerd_py.model.image import RegistryAuth

_SECRETS = ("username", "password", "identity_token", "registry_token")


def image_spec(field: str, given: pb.ImageSpec) -> ImageSpec:
    """Return an image as the caller names it; whether it is a reference or an id is for others to find out."""
    if not given.image:
        fields.missing(f"{field}.image", "give an image's id or reference")
    return ImageSpec(
        image=fields.plain(f"{field}.image", given.image),
        annotations=fields.text_map(f"{field}.annotations", given.annotations),
        user_specified_image=fields.plain(f"{field}.user_specified_image", given.user_specified_image),
        runtime_handler=fields.plain(f"{field}.runtime_handler", given.runtime_handler, limit=fields.NAME_LIMIT),
        image_ref=fields.plain(f"{field}.image_ref", given.image_ref),
    )


def image_filter(given: pb.ImageFilter) -> str:
    """Return the name to look for; empty means all (IMG-20)."""
    return fields.plain("filter.image.image", given.image.image)


def registry_auth(given: pb.AuthConfig) -> RegistryAuth | None:
    """Return the credentials in every form that CRI knows, None when there are none (IMG-36)."""
    username, password = given.username, given.password
    if given.auth and not username and not given.identity_token:
        username, password = _user_and_password(given.auth)
    auth = RegistryAuth(
        username=username,
        password=password,
        identity_token=given.identity_token,
        registry_token=given.registry_token,
        server_address=fields.plain("auth.server_address", given.server_address),
    )
    for part in _SECRETS:
        if any(character < " " for character in getattr(auth, part)):
            raise InvalidArgument(f"auth.{part} holds control characters: check the registry secret")
    return auth if any(getattr(auth, part) for part in _SECRETS) else None


def _user_and_password(encoded: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(encoded.strip().rstrip("\0"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidArgument("auth.auth is not base64 of user:password: check the registry secret") from None
    user, colon, password = text.rstrip("\0").partition(":")
    if not colon:
        raise InvalidArgument("auth.auth has no colon between user and password: check the registry secret")
    return user, password
