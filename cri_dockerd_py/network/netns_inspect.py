"""Addresses and counters of the interfaces in a network namespace, without running a program."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass

_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_DUMP_ADDRESSES = 22
_NEW_ADDRESS = 20
_DONE = 3
_ERROR = 2
_REQUEST_DUMP = 0x301
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_SIOCGIFNAME = 0x8910
_SCOPE_GLOBAL = 0
_NET_DEV_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """Totals of one interface since it was made."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address on an interface; `is_global` leaves out link-local and loopback ones."""

    interface: str
    address: str
    prefix_length: int
    is_global: bool


def parse_net_dev(text: str) -> dict[str, InterfaceCounters]:
    """Read /proc/<pid>/net/dev; lines that do not look like an interface are passed over."""
    counters = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        columns = rest.split()
        if not colon or len(columns) < _NET_DEV_COLUMNS or not all(column.isdecimal() for column in columns):
            continue
        values = [int(column) for column in columns]
        counters[name.strip()] = InterfaceCounters(*values[0:4], *values[8:12])
    return counters


def read_counters() -> dict[str, InterfaceCounters]:
    """Return the counters of the calling thread's namespace; to be run by `NetnsDir.inside`."""
    with open("/proc/thread-self/net/dev", encoding="ascii", errors="replace") as file:
        return parse_net_dev(file.read())


def read_addresses() -> list[InterfaceAddress]:
    """Return the addresses in the calling thread's namespace; to be run by `NetnsDir.inside`."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control,
    ):
        netlink.settimeout(5.0)
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _DUMP_ADDRESSES, _REQUEST_DUMP, 1, 0) + body)
        found: list[InterfaceAddress] = []
        while not _take_messages(netlink.recv(65536), control, found):
            pass
        return found


def _take_messages(data: bytes, control: socket.socket, found: list[InterfaceAddress]) -> bool:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _pid = _HEADER.unpack_from(data, offset)
        if kind in {_DONE, _ERROR} or length < _HEADER.size:
            return True
        if kind == _NEW_ADDRESS:
            found.append(_decode_address(data[offset + _HEADER.size : offset + length], control))
        offset += (length + 3) & ~3
    return False


def _decode_address(body: bytes, control: socket.socket) -> InterfaceAddress:
    _family, prefix_length, _flags, scope, index = _ADDRESS.unpack_from(body)
    attributes: dict[int, bytes] = {}
    offset = _ADDRESS.size
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    packed = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    name = fcntl.ioctl(control, _SIOCGIFNAME, struct.pack("16si20x", b"", index))[:16].split(b"\0", 1)[0]
    return InterfaceAddress(name.decode(), str(ipaddress.ip_address(packed)), prefix_length, scope == _SCOPE_GLOBAL)
