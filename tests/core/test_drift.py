"""Which changes count as untold by an engine's events."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

import pytest

from cri_dockerd_py.backends.base import ProcessExited
from cri_dockerd_py.core.drift import Drift
from cri_dockerd_py.core.observers import CoreObservers
from cri_dockerd_py.model.container import ContainerState
from tests.core.conftest import Bench, app_spec, pod_spec


@pytest.fixture
def drift() -> Drift:
    """An engine that was compared once while its event stream was open."""
    made = Drift()
    made.opened()
    made.compared(made.begin(), ())
    return made


def compare(drift: Drift, *changed: str) -> Collection[str]:
    """Make a comparison that finds these changes."""
    return drift.compared(drift.begin(), changed)


def test_what_no_event_tells_of_until_the_next_comparison_has_drifted(drift: Drift) -> None:
    assert not compare(drift, "lost", "late")
    drift.told("late")

    assert set(compare(drift)) == {"lost"}
    assert not compare(drift)


def test_what_was_told_just_before_has_not_drifted(drift: Drift) -> None:
    drift.told("known")

    assert not compare(drift, "known")
    assert not compare(drift)


def test_what_was_told_long_before_has_drifted(drift: Drift, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object's earlier event says nothing of a later change."""
    drift.told("changed")
    monkeypatch.setattr("cri_dockerd_py.core.drift._AT_WORK_S", 0.0)

    assert not compare(drift, "changed")
    assert set(compare(drift)) == {"changed"}


def test_what_changed_while_no_event_could_come_has_not_drifted(drift: Drift) -> None:
    drift.broken()
    assert not compare(drift, "while away")
    assert not compare(drift, "still away")
    drift.opened()
    assert not compare(drift, "before it was back")
    assert not compare(drift)

    compare(drift, "lost")
    assert set(compare(drift)) == {"lost"}


def test_a_stream_that_breaks_during_a_comparison_leaves_nothing_to_conclude(drift: Drift) -> None:
    comparison = drift.begin()
    drift.broken()
    drift.opened()
    drift.compared(comparison, {"one"})

    assert not compare(drift, "two")
    assert not compare(drift)


def test_a_stream_that_breaks_between_comparisons_leaves_nothing_to_conclude(drift: Drift) -> None:
    compare(drift, "one")
    drift.broken()
    drift.opened()

    assert not compare(drift)


async def test_a_feed_tells_how_many_changes_were_untold(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A container's end that comes as an event is none, one that never does is."""
    found: list[int] = []
    async with bench.core(bench.docker) as core:
        feed = core._feeds["docker"]
        feed._observers = CoreObservers(resync=found.append)
        sandbox_id = await core.sandboxes.run(pod_spec())
        told, untold = [await core.containers.create(sandbox_id, app_spec(name)) for name in ("told", "untold")]
        for container_id in (told, untold):
            await core.containers.start(container_id)
        await feed._try_resync()
        for container_id in (told, untold):
            bench.docker.kill(container_id)
            record = bench.docker.containers[container_id]
            bench.docker.containers[container_id] = replace(record, state=ContainerState.EXITED, pid=0)
        await feed._try_resync()
        bench.docker.tell(ProcessExited(told, 137, 1))
        await asyncio.sleep(0)
        await feed._try_resync()
        await feed._try_resync()

        assert found == [0, 0, 1, 0]
        assert f"docker did not tell of changes of {untold}" in caplog.text
        assert core.inventory.containers[untold].state is ContainerState.EXITED
