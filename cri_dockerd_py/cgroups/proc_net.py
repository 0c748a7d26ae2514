"""Interface counters of a process's network namespace, without entering it."""

from __future__ import annotations

from cri_dockerd_py.cgroups.files import read_all
from cri_dockerd_py.model.stats import NetworkInterfaceUsage

_LOOPBACK = "lo"
_COLUMNS = 16


def interfaces_of(pid: int, proc_root: str = "/proc") -> tuple[NetworkInterfaceUsage, ...] | None:
    """Return all interfaces but the loopback, in the kernel's order; None when the process is gone."""
    data = read_all(f"{proc_root}/{pid}/net/dev")
    return None if data is None else parse_net_dev(data)


def parse_net_dev(data: bytes) -> tuple[NetworkInterfaceUsage, ...]:
    """Parse `net/dev`: two lines of headings, then `name: 8 receive columns, 8 transmit columns`."""
    found: list[NetworkInterfaceUsage] = []
    for line in data.decode("utf-8", "replace").splitlines():
        name, colon, rest = line.rpartition(":")
        columns = rest.split()
        if not colon or len(columns) < _COLUMNS or not all(column.isdecimal() for column in columns[:_COLUMNS]):
            continue
        if name.strip() != _LOOPBACK:
            found.append(_interface(name.strip(), [int(column) for column in columns[:_COLUMNS]]))
    return tuple(found)


def _interface(name: str, columns: list[int]) -> NetworkInterfaceUsage:
    rx_bytes, rx_packets, rx_errors, rx_dropped = columns[:4]
    tx_bytes, tx_packets, tx_errors, tx_dropped = columns[8:12]
    return NetworkInterfaceUsage(
        name=name,
        rx_bytes=rx_bytes,
        rx_packets=rx_packets,
        rx_errors=rx_errors,
        rx_dropped=rx_dropped,
        tx_bytes=tx_bytes,
        tx_packets=tx_packets,
        tx_errors=tx_errors,
        tx_dropped=tx_dropped,
    )
