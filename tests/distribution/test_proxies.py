"""Proxies from the environment, as Go reads it."""

from __future__ import annotations

import pytest

from cri_dockerd_py.distribution.rules.proxies import proxy_for

_PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("https://quay.io/v2/", "", _PROXY),
        ("http://quay.io/v2/", "", None),
        ("https://127.0.0.1:5000/", "", None),
        ("https://localhost/", "", None),
        ("https://quay.io/", "*", None),
        ("https://quay.io/", "a.io, quay.io", None),
        ("https://cdn.quay.io/", "quay.io", None),
        ("https://cdn.quay.io/", ".quay.io", None),
        ("https://cdn.quay.io/", "*.quay.io", None),
        ("https://quay.io/", ".quay.io", _PROXY),
        ("https://notquay.io/", "quay.io", _PROXY),
        ("https://10.1.2.3:5000/", "10.0.0.0/8", None),
        ("https://11.1.2.3:5000/", "10.0.0.0/8", _PROXY),
        ("https://10.1.2.3/", "10.1.2.3", None),
        ("https://quay.io:5000/", "quay.io:5000", None),
        ("https://quay.io/", "quay.io:5000", _PROXY),
        ("https://quay.io/", "quay.io:443", None),
        ("https://[fd00::1]:5000/", "fd00::/8", None),
        ("https://[fd00::1]:5000/", "[fd00::1]:5000", None),
        ("https://quay.io/", "x/y,/,:,", _PROXY),
    ],
)
def test_which_proxy(url: str, no_proxy: str, expected: str | None) -> None:
    assert proxy_for(url, {"HTTPS_PROXY": _PROXY, "NO_PROXY": no_proxy}) == expected


def test_names_in_lower_case_and_proxies_without_scheme() -> None:
    assert proxy_for("http://quay.io/", {"http_proxy": "proxy:1"}) == "http://proxy:1"
    assert proxy_for("http://quay.io/", {}) is None
