"""Whose credentials go where (IMG-36, IMG-37)."""

from __future__ import annotations

import pytest

from cri_dockerd_py.distribution.rules.credentials import NOBODY, Credentials, credentials_for
from cri_dockerd_py.model.image import RegistryAuth


@pytest.mark.behaviour("IMG-36")
def test_forms_of_credentials() -> None:
    user = RegistryAuth("user", "secret", identity_token="ignored")
    assert credentials_for("docker.io", user) == Credentials("user", "secret")
    assert credentials_for("docker.io", RegistryAuth(identity_token="id")) == Credentials("", "id")
    assert credentials_for("docker.io", RegistryAuth(registry_token="ready")) == Credentials(bearer="ready")
    assert credentials_for("docker.io", None) == NOBODY


@pytest.mark.behaviour("IMG-37")
@pytest.mark.parametrize(
    ("domain", "server", "used"),
    [
        ("docker.io", "https://index.docker.io/v1/", True),
        ("docker.io", "docker.io", True),
        ("docker.io", "registry-1.docker.io", True),
        ("docker.io", "https://evildocker.io/", False),
        ("docker.io", "quay.io", False),
        ("quay.io", "quay.io", True),
        ("quay.io", "https://QUAY.io:443/v2/", True),
        ("quay.io:443", "quay.io", True),
        ("quay.io", "quay.io.example.com", False),
        ("quay.io", "http://user@quay.io", True),
        ("127.0.0.1:5000", "127.0.0.1:5000", True),
        ("127.0.0.1:5000", "127.0.0.1:5001", False),
        ("quay.io", "http://[broken", False),
    ],
)
def test_server_address_decides(domain: str, server: str, used: bool) -> None:
    found = credentials_for(domain, RegistryAuth("user", "secret", server_address=server))
    assert (found != NOBODY) == used


@pytest.mark.behaviour("IMG-43")
def test_credentials_are_not_shown() -> None:
    credentials = Credentials("user", "secret", "token")
    assert repr(credentials) == "Credentials()"
    assert credentials.hide("no secret, no token") == "no ***, no ***"
