"""From samples to the values of CRI's stats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cri_dockerd_py.cgroups.usage import BasicUsage
from cri_dockerd_py.core.stats_sampler import Sample
from cri_dockerd_py.core.stats_values import io_usage, memory_usage, network_usage, sum_of, swap_usage
from cri_dockerd_py.model.stats import NetworkInterfaceUsage, PsiData, PsiStats

USAGE = BasicUsage(
    cpu_usage_ns=100,
    memory_usage_bytes=1000,
    memory_inactive_file_bytes=300,
    memory_rss_bytes=400,
    memory_limit_bytes=2000,
    page_faults=5,
    major_page_faults=6,
    swap_usage_bytes=70,
    swap_limit_bytes=100,
)
SAMPLE = Sample(11, USAGE, 9)


@pytest.mark.behaviour("STS-04")
@pytest.mark.parametrize(("limit", "available"), [(2000, 1300), (500, 0), (None, 0)])
def test_available_memory(limit: int | None, available: int) -> None:
    """It is the limit less the working set, 0 without a limit and never negative."""
    memory = memory_usage(replace(SAMPLE, usage=replace(USAGE, memory_limit_bytes=limit)))

    assert (memory.working_set_bytes, memory.available_bytes) == (700, available)


@pytest.mark.behaviour("STS-06")
def test_swap() -> None:
    """What is left of the limit; nothing at all where the kernel does not count."""
    swap = swap_usage(SAMPLE)
    unlimited = swap_usage(replace(SAMPLE, usage=replace(USAGE, swap_limit_bytes=None)))

    assert swap is not None
    assert unlimited is not None
    assert (swap.usage_bytes, swap.available_bytes) == (70, 30)
    assert unlimited.available_bytes is None
    assert swap_usage(replace(SAMPLE, usage=replace(USAGE, swap_usage_bytes=None))) is None


@pytest.mark.behaviour("STS-06")
def test_io_pressure_is_there_or_not() -> None:
    """Without pressure there is no input-output value."""
    psi = PsiStats(PsiData(1, 2, 3, 4))
    usage = io_usage(replace(SAMPLE, usage=replace(USAGE, io_pressure=psi)))

    assert io_usage(SAMPLE) is None
    assert usage is not None
    assert (usage.timestamp_ns, usage.psi) == (11, psi)


def interface(name: str) -> NetworkInterfaceUsage:
    """An idle interface."""
    return NetworkInterfaceUsage(name, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.behaviour("PST-03")
@pytest.mark.parametrize(
    ("names", "default", "others"),
    [
        (["net1", "eth0", "net2"], "eth0", ["net1", "net2"]),
        (["net1", "net2"], "net1", ["net2"]),
        ([], None, []),
    ],
)
def test_the_default_interface(names: list[str], default: str | None, others: list[str]) -> None:
    """It is eth0, else the first; the rest are listed."""
    usage = network_usage(1, [interface(name) for name in names])

    assert (usage.default_interface and usage.default_interface.name) == default
    assert [one.name for one in usage.interfaces] == others


def test_the_sum_of_a_pods_processes() -> None:
    """Counters add up; what one of them does not know is not known of the sum."""
    other = Sample(12, replace(USAGE, memory_limit_bytes=None, swap_usage_bytes=None), None)
    total = sum_of([SAMPLE, other])

    assert total is not None
    assert (total.timestamp_ns, total.cpu_nano_cores) == (12, None)
    assert (total.usage.cpu_usage_ns, total.usage.working_set_bytes) == (200, 1400)
    assert (total.usage.memory_limit_bytes, total.usage.swap_usage_bytes) == (None, None)
    assert sum_of([]) is None


def test_the_sum_of_what_all_know() -> None:
    """Limits and rates add up when every process has them."""
    total = sum_of([SAMPLE, SAMPLE])

    assert total is not None
    assert (total.cpu_nano_cores, total.usage.memory_limit_bytes, total.usage.swap_limit_bytes) == (18, 4000, 200)
