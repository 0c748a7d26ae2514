from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.errors import InvalidArgument, NotFound
from cri_dockerd_py.model.sandbox import DnsConfig
from cri_dockerd_py.network.resolv_conf import render_resolv_conf, write_resolv_conf


@pytest.mark.behaviour("NET-01")
def test_lines_in_order() -> None:
    dns = DnsConfig(("10.10.10.10", "fd00::1"), ("google.com", "svc.local"), ("ndots:8", "edns0"))
    assert render_resolv_conf(dns, "host") == (
        "nameserver 10.10.10.10\nnameserver fd00::1\nsearch google.com svc.local\noptions ndots:8 edns0\n"
    )


@pytest.mark.behaviour("NET-02")
def test_nothing_asked_gives_the_hosts_and_empty_lists_give_an_empty_file() -> None:
    assert render_resolv_conf(None, "nameserver 9.9.9.9\n") == "nameserver 9.9.9.9\n"
    assert render_resolv_conf(DnsConfig(), "nameserver 9.9.9.9\n") == ""


@given(st.lists(st.text(max_size=8), max_size=3), st.lists(st.text(max_size=8), max_size=3))
def test_no_value_can_add_a_line(servers: list[str], searches: list[str]) -> None:
    try:
        text = render_resolv_conf(DnsConfig(tuple(servers), tuple(searches)), "")
    except InvalidArgument:
        return
    assert len(text.splitlines()) == len(servers) + bool(searches)


@pytest.mark.behaviour("NET-03")
def test_written_in_place_longer_and_shorter(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 1.1.1.1\n")
    inode = os.stat(path).st_ino
    for text in ("a\n" * 100, "short\n", ""):
        write_resolv_conf(path, text)
        assert path.read_text() == text
        assert os.stat(path).st_ino == inode


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"resolv\.conf"):
        write_resolv_conf(tmp_path / "resolv.conf", "x")
    assert not (tmp_path / "resolv.conf").exists()
