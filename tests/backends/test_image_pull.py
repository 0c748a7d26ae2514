"""Pulls by Docker: whose credentials go with them."""

from __future__ import annotations

import base64
import json

import pytest

from cri_dockerd_py.backends.docker.image_pull import auth_header
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import parse_reference


@pytest.mark.behaviour("IMG-37")
@pytest.mark.parametrize(
    ("name", "server", "address"),
    [
        ("busybox", "", "https://index.docker.io/v1/"),
        ("busybox", "https://index.docker.io/v1/", "https://index.docker.io/v1/"),
        ("busybox", "https://evil-docker.io", ""),
        ("reg.example.com/busybox", "https://reg.example.com:443", "reg.example.com"),
        ("reg.example.com/busybox", "REG.example.com", "reg.example.com"),
        ("reg.example.com/busybox", "https://u@reg.example.com/", "reg.example.com"),
        ("reg.example.com/busybox", "other.example.com", ""),
        ("reg.example.com/busybox", "http://[bad", ""),
    ],
)
def test_server_address_decides(name: str, server: str, address: str) -> None:
    header = auth_header(parse_reference(name), RegistryAuth("user", "secret", server_address=server))
    fields = json.loads(base64.urlsafe_b64decode(header))
    wanted = {"username": "user", "password": "secret", "serveraddress": address} if address else {}
    assert fields == wanted
