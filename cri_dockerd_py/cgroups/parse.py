"""Pure parsers of the kernel's text formats; what is not understood is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cri_dockerd_py.cgroups.usage import DeviceIo
from cri_dockerd_py.model.stats import PsiData, PsiStats


def field(lines: bytes, key: bytes) -> int:
    """Return the number in the line `key number`, 0 when there is none. `lines` begins with a newline, as does `key`.

    A search for the few keys that are wanted costs a fraction of splitting all of `memory.stat`.
    """
    start = lines.find(key)
    if start < 0:
        return 0
    start += len(key)
    try:
        return int(lines[start : lines.find(b"\n", start)])
    except ValueError:
        return 0


def has_field(lines: bytes, key: bytes) -> bool:
    """Whether there is a line with this key; the same forms as for `field`."""
    return lines.find(key) >= 0


def flat_keyed(data: bytes) -> dict[str, int]:
    """Parse lines of `key number`."""
    result: dict[str, int] = {}
    for line in data.decode("ascii", "replace").splitlines():
        key, _, value = line.partition(" ")
        if key and value.strip().isdecimal():
            result[key] = int(value)
    return result


def pressure(data: bytes | None) -> PsiStats | None:
    """Parse a pressure file; None when it has no `some` line."""
    if not data:
        return None
    found = dict(_pressure_lines(data))
    some = found.get(b"some")
    return PsiStats(some=some, full=found.get(b"full")) if some else None


def _pressure_lines(data: bytes) -> Iterator[tuple[bytes, PsiData]]:
    for line in data.splitlines():
        parts = line.split()
        if len(parts) != 5:
            continue
        try:
            avg10, avg60, avg300, total_us = (part.partition(b"=")[2] for part in parts[1:])
            yield parts[0], PsiData(int(total_us) * 1000, float(avg10), float(avg60), float(avg300))
        except ValueError:
            continue


def device_io_v1(service_bytes: bytes, serviced: bytes) -> tuple[DeviceIo, ...]:
    """Join `blkio.throttle.io_service_bytes` and `io_serviced`: lines of `major:minor Operation number`."""
    amounts = _blkio_lines(service_bytes)
    counts = _blkio_lines(serviced)
    return tuple(
        DeviceIo(
            device=device,
            read_bytes=amounts.get(device, {}).get("Read", 0),
            write_bytes=amounts.get(device, {}).get("Write", 0),
            reads=counts.get(device, {}).get("Read", 0),
            writes=counts.get(device, {}).get("Write", 0),
        )
        for device in sorted(amounts.keys() | counts.keys())
    )


def _blkio_lines(data: bytes) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    for line in data.decode("ascii", "replace").splitlines():
        parts = line.split()
        if len(parts) == 3 and ":" in parts[0] and parts[2].isdecimal():
            result.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    return result


def device_io_v2(data: bytes) -> tuple[DeviceIo, ...]:
    """Parse `io.stat`: lines of `major:minor rbytes=1 wbytes=2 rios=3 wios=4 …`."""
    devices: list[DeviceIo] = []
    for line in data.decode("ascii", "replace").splitlines():
        device, _, rest = line.partition(" ")
        numbers = _assignments(rest)
        if ":" in device and numbers:
            devices.append(
                DeviceIo(
                    device=device,
                    read_bytes=numbers.get("rbytes", 0),
                    write_bytes=numbers.get("wbytes", 0),
                    reads=numbers.get("rios", 0),
                    writes=numbers.get("wios", 0),
                )
            )
    return tuple(devices)


def _assignments(text: str) -> Mapping[str, int]:
    pairs = (part.partition("=") for part in text.split())
    return {key: int(value) for key, _, value in pairs if value.isdecimal()}


def process_cgroups(data: bytes) -> dict[str, str]:
    """Parse `/proc/<pid>/cgroup` into controller → path; the unified hierarchy has the empty name."""
    result: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[2].startswith("/"):
            for controller in parts[1].split(","):
                result[controller] = parts[2]
    return result
