"""Parsers of the kernel's formats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.cgroups.parse import (
    device_io_v1,
    device_io_v2,
    field,
    flat_keyed,
    has_field,
    pressure,
    process_cgroups,
)
from cri_dockerd_py.cgroups.usage import DeviceIo
from cri_dockerd_py.model.stats import PsiData, PsiStats

KEYS = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
NUMBERS = st.integers(min_value=0, max_value=2**64 - 1)
ANY_BYTES = st.binary(max_size=400)


@given(st.dictionaries(KEYS, NUMBERS, max_size=30))
def test_every_field_is_found_where_it_is(values: dict[str, int]) -> None:
    """Each key's number is returned, also when one key is the end or the beginning of another."""
    text = "".join(f"{key} {value}\n" for key, value in values.items()).encode()

    assert {key: field(b"\n" + text, f"\n{key} ".encode()) for key in values} == values
    assert flat_keyed(text) == values


@given(st.dictionaries(KEYS, NUMBERS, max_size=30), KEYS)
def test_a_missing_field_is_zero(values: dict[str, int], key: str) -> None:
    """A key that is not there reads as 0, and is known not to be there."""
    text = "\n" + "".join(f"{name} {value}\n" for name, value in values.items())

    assert field(text.encode(), f"\n{key} ".encode()) == values.get(key, 0)
    assert has_field(text.encode(), f"\n{key} ".encode()) is (key in values)


@given(ANY_BYTES)
def test_rubbish_never_raises(data: bytes) -> None:
    """Whatever a file holds, parsing returns."""
    field(b"\n" + data, b"\nkey ")
    flat_keyed(data)
    pressure(data)
    device_io_v1(data, data)
    device_io_v2(data)
    process_cgroups(data)


SHARES = st.floats(min_value=0, max_value=100).map(lambda value: round(value, 2))
PSI_LINES = st.builds(PsiData, st.integers(0, 2**53).map(lambda us: us * 1000), SHARES, SHARES, SHARES)


@given(PSI_LINES, st.none() | PSI_LINES)
def test_pressure_is_read_back(some: PsiData, full: PsiData | None) -> None:
    """Both lines are read, microseconds become nanoseconds, and a kernel without `full` for the CPU is understood."""
    lines = [("some", some)] + ([("full", full)] if full else [])
    text = "".join(
        f"{kind} avg10={data.avg10:.2f} avg60={data.avg60:.2f} avg300={data.avg300:.2f} total={data.total_ns // 1000}\n"
        for kind, data in lines
    )

    assert pressure(text.encode()) == PsiStats(some=some, full=full)


def test_no_pressure_is_none() -> None:
    """Neither an absent nor an empty file is pressure of 0."""
    assert pressure(None) is None
    assert pressure(b"") is None


def test_blkio_of_v1_joins_bytes_and_operations() -> None:
    """A disk and a loop device; the sums are not devices."""
    amounts = (
        b"8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Total 12288\n7:1 Read 512\nTotal 12800\n"
    )
    counts = b"8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n7:1 Read 1\nTotal 4\n"

    assert device_io_v1(amounts, counts) == (DeviceIo("7:1", 512, 0, 1, 0), DeviceIo("8:0", 4096, 8192, 1, 2))


def test_io_stat_of_v2() -> None:
    """A device that was only seen, not used, has no numbers and is left out."""
    data = (
        b"259:0 rbytes=1024 wbytes=2048 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n253:0 rbytes=5 wbytes=6 rios=7 wios=8\n"
    )

    assert device_io_v2(data) == (DeviceIo("259:0", 1024, 2048, 3, 4), DeviceIo("253:0", 5, 6, 7, 8))


def test_cgroups_of_a_process() -> None:
    """Shared hierarchies, named ones, the unified one, and a colon in a path."""
    data = b"4:memory:/pods/a:b\n3:cpu,cpuacct:/pods/c\n1:name=systemd:/x\n0::/unified\n"

    assert process_cgroups(data) == {
        "memory": "/pods/a:b",
        "cpu": "/pods/c",
        "cpuacct": "/pods/c",
        "name=systemd": "/x",
        "": "/unified",
    }
