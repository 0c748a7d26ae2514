"""Sampling: sharing, rates, and what is let go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.base import CgroupProbe
from cri_dockerd_py.cgroups.usage import CgroupDirs
from cri_dockerd_py.cgroups.v2 import CgroupV2
from cri_dockerd_py.core.stats_sampler import FRESH_NS, StatsSampler, StatsTarget
from tests.cgroups.sample_files import CONTAINER_ID, lay_out_process, lay_out_v2

SECOND_NS = 1_000_000_000
TARGET = StatsTarget(CONTAINER_ID, 42)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    """The sampler's clock."""
    return Clock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The cgroup of process 42."""
    lay_out_process(tmp_path / "proc", 42, f"0::/pods/pod1/{CONTAINER_ID}\n")
    return lay_out_v2(tmp_path)


@pytest.fixture
def sampler(tmp_path: Path, directory: Path, clock: Clock) -> Iterator[StatsSampler]:
    """A sampler of that cgroup."""
    made = StatsSampler(CgroupV2(str(tmp_path), str(tmp_path / "proc")), clock)
    yield made
    made.close()


def use_cpu(directory: Path, usec: int) -> None:
    """Set the CPU time used so far."""
    (directory / "cpu.stat").write_text(f"usage_usec {usec}\nuser_usec 0\nsystem_usec 0\n")


def rate(sampler: StatsSampler) -> int | None:
    """Sample and return the rate."""
    sample = sampler.sample(TARGET)
    assert sample is not None
    return sample.cpu_nano_cores


def test_young_samples_are_shared(sampler: StatsSampler, clock: Clock, directory: Path) -> None:
    """Within a tenth of a second nothing is read again; after it the figures and the timestamp move."""
    first = sampler.sample(TARGET)
    use_cpu(directory, 1)
    clock.now_ns += FRESH_NS - 1
    assert sampler.sample(TARGET) is first
    clock.now_ns += 1

    second = sampler.sample(TARGET)

    assert first is not None
    assert second is not None
    assert second.usage.cpu_usage_ns == 1000
    assert second.timestamp_ns > first.timestamp_ns


def test_the_rate_needs_a_second(sampler: StatsSampler, clock: Clock, directory: Path) -> None:
    """There is no rate at first, and none from samples that lie close together."""
    use_cpu(directory, 0)
    assert rate(sampler) is None
    clock.now_ns += SECOND_NS // 2
    use_cpu(directory, 250_000)
    assert rate(sampler) is None
    clock.now_ns += SECOND_NS // 2
    use_cpu(directory, 500_000)

    assert rate(sampler) == SECOND_NS // 2


def test_the_rate_is_of_the_last_seconds(sampler: StatsSampler, clock: Clock, directory: Path) -> None:
    """Calls every 10 s see the rate of those 10 s; a call in between still looks back a second or more."""
    use_cpu(directory, 0)
    rate(sampler)
    clock.now_ns += 10 * SECOND_NS
    use_cpu(directory, 10_000_000)
    assert rate(sampler) == SECOND_NS
    clock.now_ns += 10 * SECOND_NS
    use_cpu(directory, 15_000_000)
    assert rate(sampler) == SECOND_NS // 2
    clock.now_ns += SECOND_NS // 5

    assert rate(sampler) == 5 * SECOND_NS * 10 // 102


def test_a_rate_over_a_long_silence_is_not_told(sampler: StatsSampler, clock: Clock) -> None:
    """A mean over an hour says nothing about now."""
    rate(sampler)
    clock.now_ns += 3600 * SECOND_NS

    assert rate(sampler) is None


def test_a_counter_that_went_back_is_no_negative_rate(sampler: StatsSampler, clock: Clock, directory: Path) -> None:
    """The wire's rate is unsigned."""
    rate(sampler)
    clock.now_ns += SECOND_NS
    use_cpu(directory, 1)

    assert rate(sampler) == 0


def test_a_new_process_is_a_new_beginning(sampler: StatsSampler, clock: Clock, tmp_path: Path) -> None:
    """A container that was restarted under the same id has no rate from its former life."""
    lay_out_process(tmp_path / "proc", 43, f"0::/pods/pod1/{CONTAINER_ID}\n")
    rate(sampler)
    clock.now_ns += SECOND_NS

    sample = sampler.sample(StatsTarget(CONTAINER_ID, 43))

    assert sample is not None
    assert sample.cpu_nano_cores is None


def test_a_vanished_cgroup_comes_back_when_it_does(sampler: StatsSampler, clock: Clock, directory: Path) -> None:
    """What could not be read once is looked for anew."""
    text = (directory / "memory.current").read_text()
    (directory / "memory.current").unlink()
    assert sampler.sample(TARGET) is None
    (directory / "memory.current").write_text(text)

    assert sampler.sample(TARGET) is not None


class BrokenReader(CgroupV2):
    """A reader with a bug."""

    def probe(self, dirs: CgroupDirs) -> CgroupProbe:
        """Fail."""
        raise RuntimeError("broken")


@pytest.mark.behaviour("STS-09")
def test_a_reader_that_fails_is_a_missing_sample(
    tmp_path: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug on one container's files leaves that container out, and is logged."""
    sampler = StatsSampler(BrokenReader(str(tmp_path), str(tmp_path / "proc")))

    assert sampler.sample(TARGET) is None
    assert "it is left out" in caplog.text
    sampler.close()


def test_no_process_no_sample(sampler: StatsSampler) -> None:
    """A record without a pid, or with one that is gone, has no cgroup."""
    assert sampler.sample(StatsTarget(CONTAINER_ID, 0)) is None
    assert sampler.sample(StatsTarget(CONTAINER_ID, 99)) is None


async def test_descriptors_are_kept_and_given_back(sampler: StatsSampler) -> None:
    """Files stay open between samples, until the object is forgotten."""
    before = len(os.listdir("/proc/self/fd"))
    sampler.sample(TARGET)
    kept = len(os.listdir("/proc/self/fd"))
    sampler.forget_soon("another")
    await sampler.in_thread(lambda: None)
    assert len(os.listdir("/proc/self/fd")) == kept > before

    sampler.forget_soon(CONTAINER_ID)
    await sampler.in_thread(lambda: None)

    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_are_bounded(tmp_path: Path) -> None:
    """With few descriptors to spare, files are closed after each reading, and the figures are the same."""
    sampler = StatsSampler(CgroupV2(str(tmp_path), str(tmp_path / "proc")), max_descriptors=20)
    ids = [f"{number:064x}" for number in range(6)]
    for number, container_id in enumerate(ids, start=1):
        lay_out_v2(tmp_path, f"pods/pod1/{container_id}")
        lay_out_process(tmp_path / "proc", number, f"0::/pods/pod1/{container_id}\n")
    before = len(os.listdir("/proc/self/fd"))

    samples = [sampler.sample(StatsTarget(id, number)) for number, id in enumerate(ids, start=1)]

    assert all(samples)
    assert len(os.listdir("/proc/self/fd")) - before <= 20
    sampler.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_work_is_done_one_after_another(sampler: StatsSampler) -> None:
    """Calls that come together share one thread, so the second finds what the first has read."""
    samples = await asyncio.gather(*(sampler.in_thread(lambda: sampler.sample(TARGET)) for _ in range(10)))

    assert samples[0] is not None
    assert all(sample is samples[0] for sample in samples)
