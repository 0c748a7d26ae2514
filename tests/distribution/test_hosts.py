"""Hosts of registries that are not configured, and how hosts are spoken to."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from cri_dockerd_py.distribution.rules.hosts import (
    EVERYTHING,
    Capability,
    RegistryHost,
    TlsFiles,
    able,
    default_host,
    directories,
    is_loopback,
)


@pytest.mark.parametrize(
    ("domain", "scheme", "address", "skips", "tls_first"),
    [
        ("docker.io", "https", "registry-1.docker.io", False, False),
        ("quay.io", "https", "quay.io", False, False),
        ("10.0.0.1:5000", "https", "10.0.0.1:5000", False, False),
        ("localhost", "https", "localhost", True, False),
        ("127.0.0.1:443", "https", "127.0.0.1:443", True, False),
        ("127.0.0.1:80", "http", "127.0.0.1:80", False, False),
        ("127.8.9.1:5000", "http", "127.8.9.1:5000", True, True),
        ("[::1]:5000", "http", "[::1]:5000", True, True),
        ("localhost:5000", "http", "localhost:5000", True, True),
        ("localhost.example.com:5000", "https", "localhost.example.com:5000", False, False),
    ],
)
def test_default_hosts(domain: str, scheme: str, address: str, skips: bool, tls_first: bool) -> None:
    host = default_host(domain)
    assert (host.scheme, host.address, host.path, host.capabilities) == (scheme, address, "/v2", EVERYTHING)
    assert (host.tls.skip_verify, host.tries_tls_first) == (skips, tls_first)


def test_mirrors_hear_whose_content_is_meant() -> None:
    mirror = RegistryHost("https", "mirror.example.com", "/proxy/v2")
    url = "https://mirror.example.com/proxy/v2/library/x/manifests/1?ns=docker.io"
    assert mirror.url("library/x", "manifests", "1", "docker.io") == url
    assert mirror.url("x", "blobs", "d", "reg:5000").endswith("/x/blobs/d?ns=reg%3A5000")
    assert default_host("docker.io").url("library/x", "manifests", "1", "docker.io") == (
        "https://registry-1.docker.io/v2/library/x/manifests/1"
    )


def test_hosts_are_asked_for_what_they_may_do() -> None:
    puller = RegistryHost("https", "a", capabilities=Capability.PULL)
    both = RegistryHost("https", "b", capabilities=Capability.PULL | Capability.RESOLVE)
    none = RegistryHost("https", "c", capabilities=Capability.PUSH)
    assert able([puller, none, both], Capability.PULL) == (puller, both)
    assert able([puller, none, both], Capability.PULL | Capability.RESOLVE) == (both,)


def test_directories_of_a_domain() -> None:
    assert directories("reg.io:5000") == ("reg.io_5000_", "reg.io:5000", "_default")
    assert directories("docker.io") == ("docker.io", "_default")
    assert directories("[::1]:5000") == ("[::1]_5000_", "[::1]:5000", "_default")


def test_only_loopback_need_not_prove_itself() -> None:
    local = default_host("127.0.0.1:5000")
    assert local.tls_towards("127.0.0.1").skip_verify
    assert not local.tls_towards("auth.example.com").skip_verify
    chosen = RegistryHost("https", "reg.io", tls=TlsFiles((PurePath("/ca"),), skip_verify=True))
    assert chosen.tls_towards("auth.example.com") == chosen.tls


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "localhost:1", "127.0.0.1", "127.1.2.3:5", "[::1]", "[::1]:5")))
    assert not any(map(is_loopback, ("a.io", "10.0.0.1", "localhost.io", "[fe80::1]:5", "127.0.0.1.nip.io", "")))
