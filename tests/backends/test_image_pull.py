"""Pulls by Docker: whose credentials go with them, and what is said of those that fail."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_pull import Pulls, auth_header
from cri_dockerd_py.errors import Unknown
from cri_dockerd_py.model.image import RegistryAuth
from cri_dockerd_py.model.image_ref import parse_reference
from tests.backends.fake_daemon import fake_daemon, http


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


@pytest.mark.behaviour("IMG-41")
@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({"message": "dial tcp: connection refused"}, "RegistryUnavailable: dial tcp: connection refused"),
        ({"message": "try later", "code": 503}, "RegistryUnavailable: try later"),
        ({"message": "out of luck"}, "out of luck"),
    ],
)
async def test_an_error_in_the_stream_is_said_once(tmp_path: Path, detail: dict[str, object], said: str) -> None:
    async with fake_daemon(tmp_path) as daemon:
        daemon.answers["/images/create"] = http(200, json.dumps({"errorDetail": detail}).encode())
        client = DockerClient(daemon.endpoint)
        try:
            with pytest.raises(Unknown) as caught:
                await Pulls(client, 5.0, lambda count: None).pull(parse_reference("busybox"), None)
        finally:
            await client.close()
    assert str(caught.value) == said
