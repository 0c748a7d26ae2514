"""A migration from its plan to its end, on a node in memory with a kubelet that brings pods back."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from cri_dockerd_py.errors import FailedPrecondition, Unavailable
from cri_dockerd_py.migration.moves import MoveState, RunState
from cri_dockerd_py.migration.plan import Plan
from cri_dockerd_py.migration.progress import Progress
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.store.database import Database
from tests.migration.conftest import Scene, options
from tests.migration.fake_node import CONTAINERD, DOCKER


def add_pods(scene: Scene, count: int = 10) -> list[str]:
    return [scene.node.add_pod(f"web-{index}") for index in range(count)]


@pytest.mark.parametrize("at_once", [1, 3])
async def test_all_pods_move_so_many_at_a_time(scene: Scene, at_once: int) -> None:
    uids = add_pods(scene)
    await scene.migrations.run(options(max_unavailable=at_once))
    progress = await scene.ended()

    assert progress.run is not None
    assert progress.run.state is RunState.DONE
    assert scene.engines() == {uid: {CONTAINERD} for uid in sorted(uids)}
    assert 1 <= scene.kubelet.most_down <= at_once
    assert scene.forth.copied == ["image"]
    assert scene.node.default == CONTAINERD
    assert scene.node.pins == {}


async def test_chosen_pods_move_and_new_ones_stay_at_the_source(scene: Scene) -> None:
    add_pods(scene, 3)
    await scene.migrations.run(options(pods=("default/web-1",)))
    await scene.ended()

    assert scene.engines() == {"uid-web-0": {DOCKER}, "uid-web-1": {CONTAINERD}, "uid-web-2": {DOCKER}}
    assert scene.node.default == DOCKER
    assert scene.node.pins == {"uid-web-1": CONTAINERD}


async def test_pods_whose_image_the_target_cannot_unpack_are_kept_at_the_source(scene: Scene) -> None:
    scene.node.containerd.zstd_layers = False
    scene.node.stores[DOCKER]["zstd"] = ImageRecord("zstd", ("docker.io/library/zstd:1",), (), 1000, zstd=True)
    scene.node.add_pod("web")
    packed = scene.node.newest(scene.node.add_pod("packed", containers=()))
    assert packed is not None
    scene.node.add_container(packed, "app", image="zstd")
    await scene.migrations.run(options())
    assert (await scene.ended()).run is not None
    assert scene.engines() == {"uid-packed": {DOCKER}, "uid-web": {CONTAINERD}}
    assert (scene.forth.copied, scene.node.pins) == (["image"], {"uid-packed": DOCKER})


async def test_excluded_pods_are_kept_at_the_source(scene: Scene) -> None:
    add_pods(scene, 2)
    await scene.migrations.run(options(exclude=("*/web-1",)))
    await scene.ended()

    assert scene.engines() == {"uid-web-0": {CONTAINERD}, "uid-web-1": {DOCKER}}
    assert scene.node.pins == {"uid-web-1": DOCKER}


async def test_a_pod_that_crashes_on_the_target_goes_back_and_stops_all(scene: Scene) -> None:
    add_pods(scene, 3)
    scene.kubelet.crashing = {("uid-web-1", CONTAINERD)}
    await scene.migrations.run(options())
    progress = await scene.ended()

    assert progress.run is not None
    assert progress.run.state is RunState.STOPPED
    assert "default/web-1: container app ended with 1" in progress.run.reason
    assert [move.state for move in progress.moves] == [MoveState.DONE, MoveState.RETURNED, MoveState.PLANNED]
    assert scene.engines() == {"uid-web-0": {CONTAINERD}, "uid-web-1": {DOCKER}, "uid-web-2": {DOCKER}}
    assert scene.node.pins == {"uid-web-1": DOCKER}

    await scene.migrations.resume()
    progress = await scene.ended()
    assert progress.run is not None
    assert progress.run.state is RunState.DONE
    assert scene.engines()["uid-web-2"] == {CONTAINERD}


async def test_a_pod_that_kubelet_does_not_touch_is_shown_ready_again(scene: Scene) -> None:
    uid = scene.node.add_pod("web")
    scene.kubelet.ignored = {uid}
    await scene.migrations.run(options(return_within_s=0.1))
    progress = await scene.ended()

    assert [move.state for move in progress.moves] == [MoveState.RETURNED]
    assert "kubelet has not made it anew" in progress.moves[0].reason
    assert scene.engines() == {uid: {DOCKER}}
    assert scene.node.pins == {uid: DOCKER}


async def test_a_pod_that_runs_nowhere_any_more_is_told(scene: Scene) -> None:
    uid = scene.node.add_pod("web")
    scene.kubelet.crashing = {(uid, CONTAINERD), (uid, DOCKER)}
    await scene.migrations.run(options())
    progress = await scene.ended()

    assert [move.state for move in progress.moves] == [MoveState.FAILED]
    assert progress.run is not None
    assert "it needs a look" in progress.run.reason


async def test_pause_lets_what_is_in_flight_end_and_begins_no_more(scene: Scene) -> None:
    uids = add_pods(scene)
    await scene.migrations.run(options(max_unavailable=2))
    while not any(move.state is MoveState.DONE for move in scene.migrations.progress.moves):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    await scene.migrations.pause()
    progress = await scene.ended(RunState.PAUSED)
    done = sum(move.state is MoveState.DONE for move in progress.moves)
    assert 1 <= done < len(uids)
    with pytest.raises(FailedPrecondition, match="abort it"):
        await scene.migrations.run(options())

    await scene.migrations.resume()
    await scene.ended()
    assert scene.engines() == {uid: {CONTAINERD} for uid in sorted(uids)}


async def test_abort_lets_new_pods_go_where_they_went_before(scene: Scene) -> None:
    add_pods(scene)
    await scene.migrations.run(options())
    while not any(move.state is MoveState.DONE for move in scene.migrations.progress.moves):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    await scene.migrations.abort()
    progress = await scene.ended()

    assert progress.run is not None
    assert progress.run.state is RunState.ABORTED
    assert scene.node.default == DOCKER
    assert all(len(engines) == 1 for engines in scene.engines().values())


async def begin_and_hold_at_the_default(scene: Scene) -> list[str]:
    """Begin a migration of three pods, and hold it when its images are there and new pods are about to go there."""
    uids = add_pods(scene, 3)
    scene.node.may_set_default.clear()
    await scene.migrations.run(options())
    await asyncio.wait_for(scene.node.setting_default.wait(), 5)
    return uids


async def test_a_pause_that_comes_when_the_images_are_done_is_kept(scene: Scene) -> None:
    uids = await begin_and_hold_at_the_default(scene)
    await scene.migrations.pause()
    scene.node.may_set_default.set()
    progress = await scene.idle()

    assert progress.run is not None
    assert progress.run.state is RunState.PAUSED
    assert {move.state for move in progress.moves} == {MoveState.PLANNED}
    assert scene.engines() == {uid: {DOCKER} for uid in uids}

    await scene.migrations.resume()
    await scene.ended(RunState.DONE)
    assert scene.engines() == {uid: {CONTAINERD} for uid in uids}


async def test_an_abort_that_comes_when_the_images_are_done_is_kept(scene: Scene) -> None:
    uids = await begin_and_hold_at_the_default(scene)
    await scene.migrations.abort()
    scene.node.may_set_default.set()
    progress = await scene.idle()

    assert progress.run is not None
    assert progress.run.state is RunState.ABORTED
    assert {move.state for move in progress.moves} == {MoveState.PLANNED}
    assert scene.engines() == {uid: {DOCKER} for uid in uids}
    assert scene.node.default == DOCKER


async def test_an_abort_is_kept_when_a_pause_comes_at_once(scene: Scene) -> None:
    await begin_and_hold_at_the_default(scene)
    _, paused = await asyncio.gather(scene.migrations.abort(), scene.migrations.pause(), return_exceptions=True)
    scene.node.may_set_default.set()
    progress = await scene.idle()

    assert isinstance(paused, FailedPrecondition)
    assert progress.run is not None
    assert progress.run.state is RunState.ABORTED


async def test_an_abort_is_kept_when_there_is_a_fault_afterwards(scene: Scene) -> None:
    (uid,) = add_pods(scene, 1)
    scene.kubelet.ignored = scene.node.faulty = {uid}
    await scene.migrations.run(options(return_within_s=60.0))
    while not any(move.state is MoveState.LEAVING for move in scene.migrations.progress.moves):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    await scene.migrations.abort()
    scene.kubelet.ignored = set()
    scene.node.touch()
    progress = await scene.idle()

    assert progress.run is not None
    assert progress.run.state is RunState.ABORTED
    assert scene.node.default == DOCKER


async def test_rollback_brings_all_back(scene: Scene) -> None:
    uids = add_pods(scene, 4)
    uids.append(scene.node.add_pod("bare", owned=False))
    await scene.migrations.run(options(pods=("default/web-*", "default/bare")))
    await scene.ended()
    assert scene.engines() == {uid: {CONTAINERD} for uid in sorted(uids)}

    await scene.migrations.rollback()
    progress = await scene.ended()
    assert progress.run is not None
    assert progress.run.is_rollback
    assert scene.engines() == {uid: {DOCKER} for uid in sorted(uids)}
    assert scene.node.default == DOCKER


@pytest.mark.parametrize("seed", range(8))
async def test_a_service_that_is_killed_again_and_again_loses_no_pod(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    uids = add_pods(scene)
    await scene.migrations.run(options(max_unavailable=2))
    for _ in range(10):
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
            assert all(len(engines) <= 1 for engines in scene.engines().values())
        await scene.restart()
    progress = await scene.ended()

    assert progress.run is not None
    assert progress.run.state is RunState.DONE
    assert scene.engines() == {uid: {CONTAINERD} for uid in sorted(uids)}
    assert scene.kubelet.most_down <= 2
    assert all(record.spec.metadata.attempt <= 1 for record in scene.node.sandboxes.values())


@pytest.mark.parametrize("state", [MoveState.LEAVING, MoveState.SETTLING])
async def test_a_reboot_in_the_middle_is_gone_on_from(scene: Scene, state: MoveState) -> None:
    uids = add_pods(scene, 3)
    scene.kubelet.ignored = {uids[0]} if state is MoveState.LEAVING else set()
    await scene.migrations.run(options(settle_s=0.3))
    while scene.migrations.progress.moves[0].state is not state:
        await scene.node.wait_changed(scene.node.generation, 0.01)
    await scene.migrations.close()
    scene.node.lose_power()
    scene.kubelet.ignored = set()
    await scene.restart()
    progress = await scene.ended()

    assert progress.run is not None
    assert (progress.run.state, progress.run.reason) == (RunState.DONE, "")
    assert progress.moves[0].state is MoveState.DONE
    # Those whose turn had not come were made anew by kubelet, which does not wait for turns after a reboot.
    assert all(move.state is MoveState.DONE or move.state is MoveState.SKIPPED for move in progress.moves)
    assert scene.engines() == {uid: {CONTAINERD} for uid in uids}


async def test_a_sandbox_that_ends_again_on_the_target_is_not_waited_for(scene: Scene) -> None:
    (uid,) = add_pods(scene, 1)
    await scene.migrations.run(options(settle_s=0.3, return_within_s=60.0))
    for _ in range(2):
        while CONTAINERD not in scene.node.engines_of_running(uid):
            await scene.node.wait_changed(scene.node.generation, 1.0)
        while scene.migrations.progress.moves[0].state is MoveState.LEAVING:
            await scene.node.wait_changed(scene.node.generation, 0.01)
        scene.node.lose_power()
    progress = await scene.ended()

    assert [move.state for move in progress.moves] == [MoveState.RETURNED]
    assert progress.run is not None
    assert "has ended" in progress.run.reason
    assert scene.engines() == {uid: {DOCKER}}


async def test_nothing_begins_while_an_engine_is_away(scene: Scene) -> None:
    uids = add_pods(scene, 3)
    await scene.migrations.run(options())
    while not any(move.state is MoveState.DONE for move in scene.migrations.progress.moves):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    scene.node.docker.health.ready, scene.node.docker.health.reason = False, "restarting"
    async with asyncio.timeout(5):
        async for progress in scene.migrations.watch():
            if progress.waiting:
                break
    assert progress.waiting == "waiting for docker (restarting)"
    assert sum(move.state is MoveState.PLANNED for move in progress.moves) >= 1

    scene.node.docker.health.ready = True
    scene.node.touch()
    await scene.ended()
    assert scene.engines() == {uid: {CONTAINERD} for uid in uids}


@pytest.mark.parametrize(
    ("state", "engine"),
    [(MoveState.LEAVING, DOCKER), (MoveState.SETTLING, CONTAINERD), (MoveState.RETURNING, DOCKER)],
)
async def test_a_pod_that_goes_away_meanwhile_is_skipped(scene: Scene, state: MoveState, engine: str) -> None:
    uid = scene.node.add_pod("web")
    scene.kubelet.ignored = {uid} if state is MoveState.LEAVING else set()
    scene.kubelet.crashing = {(uid, CONTAINERD)} if state is MoveState.RETURNING else set()
    await scene.migrations.run(options(pods=("default/web",), settle_s=60.0))
    while (scene.migrations.progress.moves[0].state, scene.node.engines_of_running(uid)) != (state, {engine}):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    scene.node.sandboxes.clear()
    scene.node.containers.clear()
    scene.node.touch()
    progress = await scene.ended()

    assert [move.state for move in progress.moves] == [MoveState.SKIPPED]
    assert "the pod is not listed any more" in progress.moves[0].reason
    assert scene.node.pins == {}
    assert progress.run is not None
    assert progress.run.state is RunState.DONE


async def test_an_image_that_cannot_be_copied_stops_before_anything_moves(scene: Scene) -> None:
    add_pods(scene, 2)
    scene.forth.failing = {"image"}
    await scene.migrations.run(options())
    progress = await scene.ended()

    assert progress.run is not None
    assert progress.run.reason == "image docker.io/library/app:1 could not be copied: the stream broke"
    assert scene.node.default == DOCKER
    assert {move.state for move in progress.moves} == {MoveState.PLANNED}

    scene.forth.failing.clear()
    await scene.migrations.resume()
    await scene.ended()
    assert set(map(frozenset, scene.engines().values())) == {frozenset({CONTAINERD})}


async def test_an_image_that_was_just_removed_from_the_target_is_copied(scene: Scene) -> None:
    add_pods(scene, 1)
    scene.node.stores[CONTAINERD]["image"] = scene.node.stores[DOCKER]["image"]
    scene.node.removed[CONTAINERD].add("image")
    await scene.migrations.run(options())
    await scene.ended()
    assert scene.forth.copied == ["image"]


async def test_digests_of_copied_images_are_remembered(scene: Scene) -> None:
    scene.node.add_pod("web")
    names = ("docker.io/library/app@sha256:1",)
    scene.node.stores[DOCKER]["image"] = ImageRecord("image", ("docker.io/library/app:1",), names, 1000)
    await scene.migrations.run(options())
    await scene.ended()
    assert scene.node.digests == {names[0]: "image"}


async def test_a_full_disk_stops_before_anything_is_copied(scene: Scene) -> None:
    add_pods(scene, 1)
    scene.forth.room = 1 << 20
    await scene.migrations.run(options())
    progress = await scene.ended()

    assert progress.run is not None
    assert "are free there: make room" in progress.run.reason
    assert scene.forth.copied == []


async def test_it_is_refused_without_kubelet_or_an_engine(scene: Scene) -> None:
    add_pods(scene, 1)
    scene.silent_s = 100.0
    with pytest.raises(FailedPrecondition, match="kubelet has not listed pods"):
        await scene.migrations.run(options())
    scene.silent_s = 0.0
    scene.node.containerd.health.ready = False
    with pytest.raises(Unavailable, match="containerd cannot be reached"):
        await scene.migrations.run(options())
    with pytest.raises(FailedPrecondition, match="there is no migration"):
        await scene.migrations.pause()


async def test_of_two_that_begin_at_once_one_is_refused(scene: Scene) -> None:
    uids = add_pods(scene, 3)
    begun, refused = await asyncio.gather(*(scene.migrations.run(options()) for _ in range(2)), return_exceptions=True)
    assert isinstance(begun, Plan)
    assert isinstance(refused, FailedPrecondition)
    progress = await scene.ended(RunState.DONE)
    assert progress.run is not None
    assert progress.run.id == 1

    begun, refused = await asyncio.gather(*(scene.migrations.rollback() for _ in range(2)), return_exceptions=True)
    assert isinstance(begun, Plan)
    assert isinstance(refused, FailedPrecondition)
    progress = await scene.ended(RunState.DONE)
    assert progress.run is not None
    assert progress.run.id == 2
    assert scene.engines() == {uid: {DOCKER} for uid in uids}


async def pause_in_flight(scene: Scene) -> list[str]:
    """Pause a migration of three pods of which one is in flight, as kubelet does not act; return the uids."""
    uids = add_pods(scene, 3)
    scene.kubelet.ignored = set(uids)
    await scene.migrations.run(options(return_within_s=60.0))
    while not any(move.state is MoveState.LEAVING for move in scene.migrations.progress.moves):
        await scene.node.wait_changed(scene.node.generation, 0.01)
    await scene.migrations.pause()
    return uids


async def test_of_two_that_resume_at_once_one_is_refused(scene: Scene) -> None:
    uids = await pause_in_flight(scene)
    both = asyncio.gather(*(scene.migrations.resume() for _ in range(2)), return_exceptions=True)
    await asyncio.sleep(0)
    scene.kubelet.ignored = set()
    scene.node.touch()
    first, second = await asyncio.wait_for(both, 20)

    assert isinstance(first, Progress)
    assert isinstance(second, FailedPrecondition)
    await scene.ended(RunState.DONE)
    assert scene.engines() == {uid: {CONTAINERD} for uid in uids}


async def test_an_abort_does_not_wait_for_a_resume_that_waits_for_a_pod(scene: Scene) -> None:
    await pause_in_flight(scene)
    resuming = asyncio.ensure_future(scene.migrations.resume())
    await asyncio.sleep(0)
    progress = await asyncio.wait_for(scene.migrations.abort(), 5)
    assert progress.run is not None
    assert progress.run.state is RunState.ABORTING

    scene.kubelet.ignored = set()
    scene.node.touch()
    with pytest.raises(FailedPrecondition, match="is aborted: there is nothing to resume"):
        await resuming
    await scene.ended(RunState.ABORTED)
    assert scene.node.default == DOCKER


async def test_finish_buries_the_dead_and_tells_what_is_left(scene: Scene) -> None:
    add_pods(scene, 3)
    await scene.migrations.run(options(exclude=("default/web-2",)))
    await scene.ended()

    report = await scene.migrations.finish()
    assert (report.engine, report.buried, report.complete) == (DOCKER, 2, False)
    assert [leftover.why for leftover in report.leftovers] == ["it runs"]

    await scene.node.unpin("uid-web-2")
    await scene.migrations.run(options())
    await scene.ended()
    report = await scene.migrations.finish()
    assert (report.buried, report.complete) == (1, True)
    assert scene.node.pins == {}


async def test_finish_takes_away_the_pins_of_pods_that_have_gone_away(scene: Scene) -> None:
    add_pods(scene, 2)
    await scene.migrations.run(options(exclude=("default/web-1",)))
    await scene.ended()
    await scene.node.pin("uid-web-0", CONTAINERD)
    scene.node.sandboxes.clear()
    scene.node.containers.clear()
    assert (await scene.migrations.finish()).complete
    assert scene.node.pins == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE migrations SET version=99", "newer version"),
        ("UPDATE moves SET version=99", "newer version"),
        ("UPDATE migrations SET record='{\"id\":1'", "Expecting"),
        ("UPDATE moves SET record='{}'", "expected a Move"),
    ],
)
async def test_a_journal_that_cannot_be_read_stops_migrations_alone(
    scene: Scene, database: Database, caplog: pytest.LogCaptureFixture, change: str, told: str
) -> None:
    add_pods(scene, 2)
    await scene.migrations.run(options(pods=("default/web-0",)))
    await scene.ended()
    where = scene.engines()
    await database.run(lambda db: db.execute(change))
    await scene.restart()

    text = f"{database.path} cannot be read, so nothing is moved; .*{told}.*delete the rows"
    assert re.search(text, caplog.text)
    migrations = scene.migrations
    for ask in (migrations.resume, migrations.rollback, migrations.pause, migrations.abort, migrations.finish):
        with pytest.raises(FailedPrecondition, match=text):
            await ask()
    with pytest.raises(FailedPrecondition, match=text):
        await migrations.run(options())
    with pytest.raises(FailedPrecondition, match=text):
        await migrations.bring_images(options().plan, lambda _: None)
    with pytest.raises(FailedPrecondition, match=text):
        migrations.watch()
    assert migrations.plan(options().plan).moves
    assert scene.engines() == where

    await database.run(lambda db: [db.execute(f"DELETE FROM {table}") for table in ("moves", "migrations")])
    await scene.restart()
    await scene.migrations.run(options())
    assert (await scene.ended()).run is not None
    assert set(map(frozenset, scene.engines().values())) == {frozenset({CONTAINERD})}
