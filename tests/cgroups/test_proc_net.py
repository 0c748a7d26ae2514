"""Interface counters."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.cgroups.proc_net import interfaces_of, parse_net_dev
from cri_dockerd_py.model.stats import NetworkInterfaceUsage

HEADINGS = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
)


def test_columns() -> None:
    """Each counter comes from its column, and the loopback is left out."""
    data = HEADINGS + (
        b"    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0:1001 1002 1003 1004 5 6 7 8 2001 2002 2003 2004 9 10 11 12\n"
    )

    assert parse_net_dev(data) == (NetworkInterfaceUsage("eth0", 1001, 1002, 1003, 1004, 2001, 2002, 2003, 2004),)


NAMES = st.from_regex(r"[a-z][a-z0-9.:-]{0,14}", fullmatch=True).filter(lambda name: name != "lo")
COLUMNS = st.lists(st.integers(0, 2**64 - 1), min_size=16, max_size=16)


@given(st.dictionaries(NAMES, COLUMNS, max_size=8))
def test_all_interfaces_are_found(interfaces: dict[str, list[int]]) -> None:
    """Any legal name, also with a colon in it, and any counters."""
    lines = [f"{name:>6}: {' '.join(map(str, columns))}\n" for name, columns in interfaces.items()]
    found = parse_net_dev(HEADINGS + "".join(lines).encode())

    assert {one.name: [one.rx_bytes, one.tx_dropped] for one in found} == {
        name: [columns[0], columns[11]] for name, columns in interfaces.items()
    }


@given(st.binary(max_size=300))
def test_rubbish_never_raises(data: bytes) -> None:
    """Whatever the file holds, parsing returns."""
    parse_net_dev(data)


@pytest.fixture
def other_network() -> Iterator[int]:
    """A process in a network namespace with one interface beside the loopback."""
    script = "ip link add probe0 type bridge && ip link set probe0 up && echo ready && exec cat"
    command = ["unshare", "--net", "sh", "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        process.communicate()
        pytest.skip("network namespaces or interfaces cannot be made here")
    yield process.pid
    process.communicate()


def test_another_namespace_is_seen_without_entering_it(other_network: int) -> None:
    """The counters are those of the process, not ours."""
    found = interfaces_of(other_network)

    assert found is not None
    assert [one.name for one in found] == ["probe0"]


def test_a_process_that_is_gone() -> None:
    """No process, no counters."""
    assert interfaces_of(2**22 + 1) is None
