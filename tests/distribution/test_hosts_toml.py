"""hosts.toml in containerd's format."""

from __future__ import annotations

import contextlib
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.distribution.rules.hosts import EVERYTHING, Capability, TlsFiles, default_host
from cri_dockerd_py.distribution.rules.hosts_toml import BadHostsToml, parse_hosts_toml

_HERE = PurePath("/etc/certs.d/x")
_FULL = """
server = "https://registry.example.com/base"
ca = "server.crt"
[host."https://z.example.com:8443"]
  capabilities = ["pull"]
  ca = ["a.crt", "/abs/b.crt"]
  client = [["c.cert", "c.key"], ["d.pem", ""]]
  dial_timeout = "1m30.5s"
[host."http://a.example.com/v2/"]
  skip_verify = true
  client = "both.pem"
  [host."http://a.example.com/v2/".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."m.example.com/root"]
  capabilities = ["pull", "resolve"]
  override_path = true
  client = ["e.pem", "f.pem"]
"""


def test_mirrors_in_file_order_and_the_server_last() -> None:
    z, a, m, server = parse_hosts_toml(_FULL, _HERE, "docker.io")
    assert (z.scheme, z.address, z.path, z.capabilities) == ("https", "z.example.com:8443", "/v2", Capability.PULL)
    assert z.tls == TlsFiles(
        (_HERE / "a.crt", PurePath("/abs/b.crt")), ((_HERE / "c.cert", _HERE / "c.key"), (_HERE / "d.pem", None))
    )
    assert z.dial_timeout_s == 90.5
    assert (a.scheme, a.path, a.tls.skip_verify) == ("http", "/v2", True)
    assert a.tls.client == ((_HERE / "both.pem", None),)
    assert a.headers == (("x-one", "1"), ("x-two", "2"), ("x-two", "3"))
    assert (m.scheme, m.address, m.path) == ("https", "m.example.com", "/root")
    assert m.capabilities == Capability.PULL | Capability.RESOLVE
    assert m.tls.client == ((_HERE / "e.pem", None), (_HERE / "f.pem", None))
    assert (server.address, server.path, server.tls.ca) == ("registry.example.com", "/base/v2", (_HERE / "server.crt",))
    assert server.capabilities == EVERYTHING
    assert server.dial_timeout_s == 30


def test_without_a_server_it_is_the_usual_one() -> None:
    (hub,) = parse_hosts_toml("capabilities = ['push']", _HERE, "docker.io")
    assert hub == default_host("docker.io")
    (local,) = parse_hosts_toml('server = ""', _HERE, "127.0.0.1:5000")
    assert local == default_host("127.0.0.1:5000")
    (mine,) = parse_hosts_toml("ca = 'x'", _HERE, "127.0.0.1:5000")
    assert mine.tls == TlsFiles((_HERE / "x",))
    assert mine.tries_tls_first


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("server = ", "TOML"),
        ("server = 1", "server"),
        ("host = 1", "host"),
        ("host.'https://x' = 1", "no table"),
        ("host.'https://x:port'.ca = 'a'", "no URL"),
        ("host.''.ca = 'a'", "no URL"),
        ("host.'https://x'.capabilities = ['pul']", "pul"),
        ("host.'https://x'.capabilities = [1]", "capabilities"),
        ("host.'https://x'.ca = 1", "ca"),
        ("host.'https://x'.client = 1", "client"),
        ("host.'https://x'.client = [['a', 'b', 'c']]", "client"),
        ("host.'https://x'.skip_verify = 'yes'", "skip_verify"),
        ("host.'https://x'.header = 'a'", "header"),
        ("host.'https://x'.header = {a = 1}", "header"),
        ("host.'https://x'.header = {a = \"b\\r\\nc\"}", "header"),
        ("host.'https://x'.header = {'a b' = 'c'}", "header"),
        ("host.'https://x'.dial_timeout = 'soon'", "duration"),
        ("host.'https://x'.dial_timeout = 5", "dial_timeout"),
    ],
)
def test_files_that_cannot_be_followed(text: str, why: str) -> None:
    with pytest.raises(BadHostsToml, match=why):
        parse_hosts_toml(text, _HERE, "docker.io")


@given(
    st.text(max_size=100)
    | st.builds("host.'https://x'.{} = {}".format, st.sampled_from(["ca", "client", "header"]), st.text(max_size=30))
)
def test_no_file_is_too_strange(text: str) -> None:
    with contextlib.suppress(BadHostsToml):
        parse_hosts_toml(text, _HERE, "docker.io")
