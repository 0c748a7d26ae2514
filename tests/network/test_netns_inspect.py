from __future__ import annotations

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.netns_inspect import InterfaceCounters, parse_net_dev, read_addresses, read_counters

NET_DEV = """Inter-|   Receive                                             |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     120       2    0    0    0     0          0         0  120       2    0    0    0     0       0          0
  eth0:18446744073709551615 11 12 13 0 0 0 0 21 22 23 24 0 0 0 0
eth0:1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
"""


def test_counters_of_each_interface() -> None:
    assert parse_net_dev(NET_DEV) == {
        "lo": InterfaceCounters(120, 2, 0, 0, 120, 2, 0, 0),
        "eth0": InterfaceCounters(18446744073709551615, 11, 12, 13, 21, 22, 23, 24),
        "eth0:1": InterfaceCounters(1, 2, 3, 4, 5, 6, 7, 8),
    }


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_net_dev(text)


def test_the_kernels_own_file_is_understood() -> None:
    assert "lo" in parse_net_dev(Path("/proc/net/dev").read_text())


async def test_counters_inside_a_namespace(netns_dir: NetnsDir) -> None:
    path = str(await netns_dir.create("pod"))
    sender = await netns_dir.inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sender:
        sender.sendto(b"x" * 100, ("127.0.0.1", 9))
    counters = await netns_dir.inside(path, read_counters)
    assert list(counters) == ["lo"]
    assert counters["lo"].tx_packets >= 1
    assert counters["lo"].tx_bytes >= 128


async def test_addresses_of_this_host_include_loopback() -> None:
    found = {(item.interface, item.address): item for item in read_addresses()}
    loopback = found["lo", "127.0.0.1"]
    assert (loopback.prefix_length, loopback.is_global) == (8, False)
