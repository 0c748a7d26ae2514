"""What moves, what stays and why, in which order, and what has to be copied."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument
from cri_dockerd_py.migration.facts import PodFacts, read_pod_facts
from cri_dockerd_py.migration.obstacles import Obstacle
from cri_dockerd_py.migration.order import Rank
from cri_dockerd_py.migration.plan import Plan, PlanOptions, make_plan
from cri_dockerd_py.migration.pods import pods_of
from cri_dockerd_py.migration.port import engine_facts
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.model.node import RuntimeHandler
from cri_dockerd_py.model.sandbox import SandboxSpec
from tests.migration.fake_node import CONTAINERD, DOCKER, FakeNode

STATIC = {"kubernetes.io/config.source": "file"}


def plan(
    node: FakeNode, facts: Mapping[str, PodFacts] | None = None, target: str = CONTAINERD, **fields: object
) -> Plan:
    options = PlanOptions(target, **fields)  # type: ignore[arg-type]
    pods = pods_of(node.sandboxes.values(), node.containers.values()).values()
    return make_plan(options, engine_facts(node), pods, node.stores, facts)


def obstacles(plan: Plan) -> dict[str, Obstacle]:
    return {stay.name: stay.obstacle for stay in plan.stays}


@pytest.mark.behaviour("RCR-20", "RCR-21", "RCR-22")
@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        ({"pod-template-hash": "5d4f"}, {}, None),
        ({"controller-revision-hash": "7c9"}, {}, None),
        ({"statefulset.kubernetes.io/pod-name": "db-0"}, {}, None),
        ({}, STATIC, None),
        ({"batch.kubernetes.io/job-name": "once"}, {}, Obstacle.JOB),
        ({"job-name": "once", "pod-template-hash": "5d4f"}, {}, Obstacle.JOB),
        ({}, {"kubernetes.io/config.source": "api"}, Obstacle.POLICY_UNKNOWN),
    ],
)
async def test_the_restart_policy_is_told_by_labels_or_not_at_all(
    labels: dict[str, str], annotations: dict[str, str], expected: Obstacle | None
) -> None:
    node = FakeNode()
    node.add_pod("pod", labels=labels, annotations=annotations, owned=False)
    assert obstacles(plan(node)).get("pod") is expected


async def test_a_container_that_came_back_after_it_ended_with_0_has_always() -> None:
    node = FakeNode()
    sandbox = node.newest(node.add_pod("pod", containers=(), owned=False))
    assert sandbox is not None
    node.add_container(sandbox, "app", exit_code=0)
    node.add_container(sandbox, "app", attempt=1)
    assert [move.name for move in plan(node).moves] == ["pod"]

    # A second one may be a sidecar, which comes back under every policy.
    node.add_container(sandbox, "proxy")
    assert obstacles(plan(node)) == {"pod": Obstacle.POLICY_UNKNOWN}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (PodFacts("uid-pod", "Always"), None),
        (PodFacts("uid-pod", "OnFailure"), Obstacle.ON_FAILURE),
        (PodFacts("uid-pod", "Never"), Obstacle.NEVER),
        (PodFacts("uid-pod", "Always", deleted=True), Obstacle.DELETED),
        (PodFacts("uid-pod", "Always", terminal=True), Obstacle.ENDED),
    ],
)
async def test_the_api_servers_word_decides(facts: PodFacts, expected: Obstacle | None) -> None:
    node = FakeNode()
    node.add_pod("pod")
    assert obstacles(plan(node, {facts.uid: facts})).get("pod") is expected


async def test_a_pod_of_unknown_policy_moves_when_it_is_named_without_a_wildcard() -> None:
    node = FakeNode()
    node.add_pod("pod", owned=False)
    node.add_pod("job", owned=False, labels={"job-name": "once"})
    assert [move.name for move in plan(node, pods=("default/pod", "default/job")).moves] == ["pod"]
    assert plan(node, pods=("default/p*",)).moves == ()


async def test_pods_in_no_state_to_move_stay() -> None:
    node = FakeNode()
    node.add_pod("starting", containers=())
    down = node.newest(node.add_pod("down"))
    assert down is not None
    node.add_container(down, "crashing", exit_code=1)
    initialised = node.newest(node.add_pod("initialised"))
    assert initialised is not None
    node.add_container(initialised, "init", exit_code=0)
    ended = node.newest(node.add_pod("ended"))
    assert ended is not None
    await node.report_not_ready(ended.id)
    node.add_pod("stranger", labels={"io.kubernetes.pod.uid": "another"})
    node.add_pod("there", engine=CONTAINERD)

    assert obstacles(plan(node)) == {
        "starting": Obstacle.BEING_CREATED,
        "down": Obstacle.NOT_RUNNING,
        "ended": Obstacle.ENDED,
        "stranger": Obstacle.NOT_KUBELETS,
    }
    assert [move.name for move in plan(node).moves] == ["initialised"]


async def test_what_the_target_cannot_do_is_known_before_anything_stops() -> None:
    node = FakeNode()
    node.add_pod("sandboxed", handler="kata")
    assert obstacles(plan(node)) == {"sandboxed": Obstacle.HANDLER}
    node.containerd.handlers = (RuntimeHandler(""), RuntimeHandler("kata"))
    assert obstacles(plan(node)) == {}


async def test_the_order_spares_what_others_need() -> None:
    node = FakeNode()
    system, control = "kube-system", {"tier": "control-plane"}
    node.add_pod("etcd", labels={**control, "component": "etcd"}, annotations=STATIC, namespace=system)
    node.add_pod("apiserver", labels={**control, "component": "kube-apiserver"}, annotations=STATIC, namespace=system)
    node.add_pod("scheduler", labels={**control, "component": "kube-scheduler"}, annotations=STATIC, namespace=system)
    node.add_pod("static", annotations=STATIC)
    node.add_pod("dns-agent", labels={"controller-revision-hash": "7"}, owned=False, namespace=system)
    node.add_pod("collector", labels={"controller-revision-hash": "8"}, owned=False)
    node.add_pod("single", labels={"pod-template-hash": "one"})
    node.add_pod("web-1")
    node.add_pod("web-0")
    moves = plan(node, last=("default/web-0",)).moves

    assert [move.name for move in moves] == [
        *("web-1", "single", "collector", "dns-agent", "static", "scheduler", "apiserver", "etcd", "web-0"),
    ]
    assert [move.name for move in moves if move.alone] == ["dns-agent", "scheduler", "apiserver", "etcd"]
    assert moves[0].rank is Rank.SIBLINGS


async def test_images_are_copied_once_and_by_all_their_names() -> None:
    node = FakeNode()
    for name in ("web-0", "web-1"):
        node.add_pod(name)
    sandbox = node.newest(node.add_pod("other", containers=()))
    assert sandbox is not None
    node.add_container(sandbox, "app", image="gone")
    node.add_container(sandbox, "side", image="there")
    tags, digests = ("docker.io/library/app:1",), ("docker.io/library/app@sha256:1",)
    node.stores[DOCKER] |= {
        "image": ImageRecord("image", tags, digests, 1000),
        "there": ImageRecord("there", ("docker.io/library/side:1",), (), 10),
        "unused": ImageRecord("unused", (), (), 5),
    }
    node.stores[CONTAINERD] |= {
        "image": ImageRecord("image", tags, (), 1000),
        "there": ImageRecord("there", ("docker.io/library/side:1",), (), 12),
    }
    images = {image.id: image for image in plan(node).images}

    assert {name: image.present for name, image in images.items()} == {"image": False, "there": True, "gone": False}
    assert (images["image"].pods, images["gone"].missing_at_source) == (2, True)
    assert plan(node).copy_bytes == 1000


async def test_pods_of_images_that_the_target_cannot_unpack_stay() -> None:
    node = FakeNode()
    node.add_pod("web", engine=CONTAINERD)
    packed = node.newest(node.add_pod("packed", engine=CONTAINERD, containers=()))
    assert packed is not None
    node.add_container(packed, "app", image="zstd")
    record = ImageRecord("zstd", ("docker.io/library/zstd:1",), (), 1000, zstd=True)
    node.stores[CONTAINERD] = {"zstd": record, "image": ImageRecord("image", (), (), 10)}
    assert obstacles(plan(node, target=DOCKER)) == {}

    node.docker.zstd_layers = False
    planned = plan(node, target=DOCKER)
    assert (obstacles(planned), planned.copy_bytes) == ({"packed": Obstacle.IMAGE_FORMAT}, 10)
    node.stores[DOCKER]["zstd"] = record
    assert obstacles(plan(node, target=DOCKER)) == {}


async def test_the_estimate_counts_waves_and_bytes() -> None:
    node = FakeNode()
    for index in range(5):
        node.add_pod(f"web-{index}")
    node.stores[DOCKER]["image"] = ImageRecord("image", (), (), 300)
    assert plan(node, max_unavailable=2).estimate_s(move_s=4.0, bytes_per_s=100.0) == 3.0 + 3 * 4.0


async def test_two_engines_are_needed() -> None:
    node = FakeNode()
    with pytest.raises(InvalidArgument, match="is no engine of this node"):
        plan(node, target="podman")
    with pytest.raises(FailedPrecondition, match="needs two engines"):
        make_plan(PlanOptions(DOCKER), engine_facts(node)[:1], (), {})
    with pytest.raises(InvalidArgument, match="max-unavailable"):
        PlanOptions(DOCKER, max_unavailable=0)


async def test_a_pods_newest_sandbox_tells_where_it_is() -> None:
    node = FakeNode()
    node.add_pod("web")
    old = node.newest("uid-web")
    assert old is not None
    await node.report_not_ready(old.id)
    node.add_sandbox(SandboxSpec(old.spec.metadata, labels=old.spec.labels), CONTAINERD)
    assert plan(node).moves == ()
    assert plan(node).stays == ()


def test_facts_are_read_from_what_kubectl_prints() -> None:
    text = json.dumps(
        {
            "items": [
                {"metadata": {"uid": "a", "ownerReferences": [{"kind": "Job"}]}, "spec": {"restartPolicy": "Never"}},
                {
                    "metadata": {"uid": "mirror", "annotations": {"kubernetes.io/config.mirror": "hash"}},
                    "spec": {},
                    "status": {"phase": "Running"},
                },
                {"metadata": {"uid": "b", "deletionTimestamp": "now"}, "spec": {}, "status": {"phase": "Failed"}},
            ]
        }
    )
    assert read_pod_facts(text) == {
        "a": PodFacts("a", "Never", "Job"),
        "hash": PodFacts("hash", "Always"),
        "b": PodFacts("b", "Always", deleted=True, terminal=True),
    }


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"items": [{}]}', '{"items": [{"metadata": {"uid": "a"}, "spec": {"restartPolicy": 1}}]}']
)
def test_facts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="kubectl get pods"):
        read_pod_facts(text)
