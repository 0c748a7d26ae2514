"""The room's door with fake plugins: order, records, failures and readiness."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cri_dockerd_py.errors import (
    CriError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
    Unknown,
)
from cri_dockerd_py.model.sandbox import DnsConfig, PortMapping, Protocol
from cri_dockerd_py.network.cni_cache import CacheEntry, ResultCache
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import NOT_READY, CniSettings, PodNetwork, attachments_of
from cri_dockerd_py.network.pod_request import PodNetworkRequest
from tests.network import crashing_setup
from tests.network.fake_plugins import RESULT, FakePlugins, conflist, fails, prints
from tests.processes import wait_until

CAPABLE = {"type": "p", "capabilities": {"portMappings": True, "dns": True, "ipRanges": True}}
Observed = tuple[list[tuple[str, str, float, bool]], Callable[[str, str, float, bool], None]]


@pytest.fixture
def cache(settings: CniSettings) -> ResultCache:
    return ResultCache(settings.cache_dir)


@pytest.fixture
async def network(settings: CniSettings, netns_dir: NetnsDir, plugins: FakePlugins, conf_dir: Path) -> PodNetwork:
    for kind in ("p", "q"):
        plugins.install(kind)
    (conf_dir / "10-net.conflist").write_bytes(conflist("p", "q"))
    network = PodNetwork(settings, netns_dir)
    await network.start()
    return network


@pytest.fixture
async def request_(netns_dir: NetnsDir, sandbox_id: str) -> PodNetworkRequest:
    path = await netns_dir.create(sandbox_id)
    return PodNetworkRequest(sandbox_id, "web", "prod", "u-1", str(path))


def swap(conf_dir: Path, text: bytes) -> None:
    """Replace the configuration."""
    draft = conf_dir / ".draft"
    draft.write_bytes(text)
    os.rename(draft, conf_dir / "10-net.conflist")


async def test_a_pod_comes_and_goes(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, settings: CniSettings
) -> None:
    status = await network.setup(request_)
    assert (status.ips, status.network_name) == (("10.9.8.7",), "fake-net")
    assert network.cached_status(request_.sandbox_id) == status
    await network.teardown(request_)
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]
    for call in plugins.calls():
        assert call.env["CNI_CONTAINERID"] == request_.sandbox_id
        assert call.env["CNI_NETNS"] == request_.netns_path
        assert call.env["CNI_ARGS"].endswith(f"K8S_POD_INFRA_CONTAINER_ID={request_.sandbox_id};K8S_POD_UID=u-1")
    assert plugins.calls()[2].stdin["prevResult"] == RESULT
    assert network.cached_status(request_.sandbox_id) is None
    assert os.listdir(settings.cache_dir / "results") == os.listdir(settings.lock_dir) == []


async def test_a_second_teardown_runs_nothing(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins
) -> None:
    await network.setup(request_)
    await network.teardown(request_)
    plugins.forget()
    await network.teardown(request_)
    assert plugins.steps() == []
    await network.setup(request_)
    await network.teardown(request_)
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]


async def test_capabilities_reach_those_that_declare_them_in_add_and_in_del(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, conf_dir: Path
) -> None:
    swap(conf_dir, conflist(CAPABLE, "q"))
    network.update_pod_cidr("10.1.0.0/24,fd00::/64")
    ports = (PortMapping(Protocol.TCP, 80, 8080), PortMapping(Protocol.TCP, 81))
    await network.setup(replace(request_, port_mappings=ports, dns=DnsConfig(("1.1.1.1",)), aliases=("a",)))
    await network.teardown(PodNetworkRequest(request_.sandbox_id))
    for call in plugins.calls():
        assert call.stdin.get("runtimeConfig") == (
            {
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
                "dns": {"servers": ["1.1.1.1"], "searches": [], "options": []},
                "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]],
            }
            if call.plugin == "p"
            else None
        )
        assert "K8S_POD_NAME=web;" in call.env["CNI_ARGS"]


async def test_del_goes_by_what_add_was_made_with(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, conf_dir: Path
) -> None:
    await network.setup(request_)
    plugins.install("other")
    swap(conf_dir, conflist("other", name="other-net"))
    await network.refresh()
    plugins.forget()
    await network.teardown(request_)
    assert plugins.steps() == ["q DEL", "p DEL"]
    assert {call.stdin["name"] for call in plugins.calls()} == {"fake-net"}


async def test_del_after_all_configuration_is_gone(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, conf_dir: Path
) -> None:
    await network.setup(request_)
    (conf_dir / "10-net.conflist").unlink()
    await network.refresh()
    await network.teardown(request_)
    assert plugins.steps()[2:] == ["q DEL", "p DEL"]
    await network.teardown(PodNetworkRequest("never-seen"))


async def test_del_without_a_cache_file_goes_by_the_configuration_in_force(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, cache: ResultCache
) -> None:
    await network.setup(request_)
    cache.path_of("fake-net", request_.sandbox_id, "eth0").unlink()
    plugins.forget()
    await network.teardown(request_)
    assert plugins.steps() == ["q DEL", "p DEL"]
    assert all("prevResult" not in call.stdin for call in plugins.calls())


@pytest.mark.behaviour("NET-13")
async def test_del_after_the_namespace_was_deleted(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, netns_dir: NetnsDir
) -> None:
    plugins.install("q", DEL='[ -z "$CNI_NETNS" ] || exit 1')
    await network.setup(request_)
    await netns_dir.remove(request_.sandbox_id)
    await network.teardown(request_)
    assert plugins.steps()[2:] == ["q DEL", "p DEL"]


async def test_pods_of_cri_dockerd_are_detached_by_its_files(
    network: PodNetwork, plugins: FakePlugins, settings: CniSettings, sandbox_id: str
) -> None:
    """Golden: the file that cri-dockerd 0.4 leaves, with its loopback file beside it."""
    results = settings.cache_dir / "results"
    results.mkdir(parents=True)
    args = [
        ["IgnoreUnknown", "1"],
        ["K8S_POD_NAMESPACE", "default"],
        ["K8S_POD_NAME", "nginx"],
        ["K8S_POD_INFRA_CONTAINER_ID", sandbox_id],
    ]
    result = {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.88.0.7/16"}], "dns": {}}
    text = conflist("q", "p", name="dockerd-net", version="0.4.0")
    fields = {
        "kind": "cniCacheV1",
        "containerId": sandbox_id,
        "config": base64.b64encode(text).decode(),
        "ifName": "eth0",
        "networkName": "dockerd-net",
        "cniArgs": args,
        "capabilityArgs": {"portMappings": []},
        "result": result,
    }
    (results / f"dockerd-net-{sandbox_id}-eth0").write_text(json.dumps(fields))
    (results / f"cni-loopback-{sandbox_id}-eth0").write_text(json.dumps({**fields, "networkName": "cni-loopback"}))
    status = network.cached_status(sandbox_id)
    assert status is not None
    assert status.ips == ("10.88.0.7",)
    await network.teardown(PodNetworkRequest(sandbox_id))
    assert plugins.steps() == ["p DEL", "q DEL"]
    assert plugins.calls()[0].stdin["prevResult"] == {**result, "cniVersion": "0.4.0"}
    assert plugins.calls()[0].env["CNI_ARGS"] == ";".join(f"{key}={value}" for key, value in args)
    assert os.listdir(results) == []


async def test_a_bare_result_of_old_libcni(
    network: PodNetwork, plugins: FakePlugins, settings: CniSettings, sandbox_id: str
) -> None:
    results = settings.cache_dir / "results"
    results.mkdir(parents=True)
    (results / f"fake-net-{sandbox_id}-eth0").write_text(json.dumps(RESULT))
    await network.teardown(PodNetworkRequest(sandbox_id))
    assert plugins.steps() == ["q DEL", "p DEL"]
    assert plugins.calls()[0].stdin["prevResult"] == RESULT
    assert os.listdir(results) == []


async def test_a_failed_add_is_undone(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, cache: ResultCache
) -> None:
    plugins.install("q", ADD=fails(100, "no more addresses"))
    with pytest.raises(Unknown, match=f"sandbox {request_.sandbox_id}.*plugin q failed ADD .*no more addresses"):
        await network.setup(request_)
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]
    assert cache.entries() == []


async def test_what_cannot_be_undone_stays_on_record(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, cache: ResultCache
) -> None:
    plugins.install("q", ADD=fails(100, "broken"), DEL=fails(100, "also broken"))
    with pytest.raises(Unknown, match="plugin q failed ADD"):
        await network.setup(request_)
    (entry,) = cache.entries_of(request_.sandbox_id)
    assert entry.result is None
    assert network.cached_status(request_.sandbox_id) is None
    with pytest.raises(Unknown, match="also broken"):
        await network.teardown(request_)
    plugins.install("q")
    await network.teardown(request_)
    assert cache.entries() == []


@pytest.mark.behaviour("NET-11")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (prints({"cniVersion": "1.0.0"}), "no IP address on eth0"),
        (prints({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.300/24"}]}), "not an IP"),
        ("echo garbage", "not valid JSON"),
    ],
)
async def test_a_result_without_a_usable_address_is_a_failure(
    network: PodNetwork,
    request_: PodNetworkRequest,
    plugins: FakePlugins,
    cache: ResultCache,
    answer: str,
    reason: str,
) -> None:
    plugins.install("q", ADD=answer)
    with pytest.raises(Unknown, match=reason):
        await network.setup(request_)
    assert plugins.steps()[2:] == ["q DEL", "p DEL"]
    assert cache.entries() == []


@pytest.mark.parametrize(
    ("code", "error"), [(11, Unavailable), (50, Unavailable), (51, Unavailable), (7, Unknown), (100, Unknown)]
)
async def test_codes_that_ask_for_patience(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, code: int, error: type[CriError]
) -> None:
    plugins.install("p", ADD=fails(code, "x"))
    with pytest.raises(error):
        await network.setup(request_)


async def test_a_slow_chain_is_ended_and_undone(
    settings: CniSettings, netns_dir: NetnsDir, network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins
) -> None:
    del network
    plugins.install("q", ADD="exec sleep 600")
    hasty = PodNetwork(replace(settings, timeout=1.0), netns_dir)
    await hasty.start()
    with pytest.raises(DeadlineExceeded, match="plugin q failed ADD"):
        await hasty.setup(request_)
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]


async def test_a_cancelled_setup_is_undone_before_the_caller_goes_on(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, cache: ResultCache, tmp_path: Path
) -> None:
    plugins.install("q", ADD=f"touch {tmp_path}/in-add; sleep 0.5; {prints(RESULT)}")
    async with asyncio.TaskGroup() as group:
        job = group.create_task(network.setup(request_))
        await asyncio.to_thread(wait_until, (tmp_path / "in-add").exists, "the second ADD")
        job.cancel()
    assert job.cancelled()
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]
    assert cache.entries() == []


async def test_an_add_never_follows_an_add(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins
) -> None:
    await network.setup(request_)
    await network.setup(request_)
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL", "p ADD", "q ADD"]


async def test_a_teardown_waits_for_the_setup_of_the_same_pod(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, tmp_path: Path
) -> None:
    plugins.install("p", ADD=f"touch {tmp_path}/in-add; sleep 0.5; {prints(RESULT)}")
    async with asyncio.TaskGroup() as group:
        group.create_task(network.setup(request_))
        await asyncio.to_thread(wait_until, (tmp_path / "in-add").exists, "ADD")
        group.create_task(network.teardown(request_))
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]


async def test_many_pods_at_once_while_the_configuration_is_edited(
    network: PodNetwork, netns_dir: NetnsDir, plugins: FakePlugins, conf_dir: Path, cache: ResultCache
) -> None:
    requests = []
    for number in range(12):
        path = await netns_dir.create(f"pod{number}")
        requests.append(PodNetworkRequest(f"pod{number}", netns_path=str(path)))

    async def live(request: PodNetworkRequest) -> None:
        assert (await network.setup(request)).ips == ("10.9.8.7",)
        await network.teardown(request)

    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(requests):
            group.create_task(live(request))
            text = conflist("p", name=f"net{number}")
            (conf_dir / "10-net.conflist").write_bytes(text[: 10 + number])
            await asyncio.sleep(0.005)
            (conf_dir / "10-net.conflist").write_bytes(text)
    adds = {call.env["CNI_CONTAINERID"]: call.stdin["name"] for call in plugins.calls() if call.command == "ADD"}
    dels = {call.env["CNI_CONTAINERID"]: call.stdin["name"] for call in plugins.calls() if call.command == "DEL"}
    assert adds == dels
    assert len(adds) == 12
    assert cache.entries() == []


@pytest.mark.parametrize("path", [None, "", "/nowhere", "/dev/null"])
async def test_setup_wants_a_namespace(network: PodNetwork, sandbox_id: str, path: str | None) -> None:
    with pytest.raises(FailedPrecondition, match="no network namespace"):
        await network.setup(PodNetworkRequest(sandbox_id, netns_path=path))


async def test_bad_requests_run_nothing(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, cache: ResultCache
) -> None:
    for bad in (
        replace(request_, sandbox_id="../../etc/x"),
        replace(request_, annotations={"kubernetes.io/ingress-bandwidth": "much"}),
        replace(request_, port_mappings=(PortMapping(Protocol.TCP, 80, 99999),)),
    ):
        with pytest.raises(InvalidArgument):
            await network.setup(bad)
    with pytest.raises(InvalidArgument):
        await network.teardown(PodNetworkRequest("../x"))
    assert plugins.steps() == []
    assert cache.entries() == []


async def test_without_a_configuration_nothing_is_tried(
    settings: CniSettings, netns_dir: NetnsDir, request_: PodNetworkRequest
) -> None:
    network = PodNetwork(settings, netns_dir)
    await network.start()
    with pytest.raises(Unavailable, match="cni config uninitialized: no network configuration in"):
        await network.setup(request_)


@pytest.mark.behaviour("STA-10")
async def test_readiness_follows_the_directory(network: PodNetwork, conf_dir: Path) -> None:
    assert network.status() == (True, "", "")
    (conf_dir / "10-net.conflist").unlink()
    await network.refresh()
    ready, reason, message = network.status()
    assert (ready, reason) == (False, NOT_READY)
    assert str(conf_dir) in message
    swap(conf_dir, conflist("p"))
    await network.refresh()
    assert network.status() == (True, "", "")


@pytest.mark.behaviour("STA-22")
async def test_readiness_waits_for_the_pod_range_where_it_is_wanted(
    network: PodNetwork, conf_dir: Path, request_: PodNetworkRequest
) -> None:
    swap(conf_dir, conflist(CAPABLE))
    await network.refresh()
    assert network.status() == (False, NOT_READY, "cni config needs ipRanges but no PodCIDR set")
    with pytest.raises(Unavailable, match="PodCIDR"):
        await network.setup(request_)
    for text in ("", "  "):
        network.update_pod_cidr(text)
    assert not network.status()[0]
    with pytest.raises(InvalidArgument):
        network.update_pod_cidr("10.0.0.0/99")
    network.update_pod_cidr("10.1.0.0/24")
    assert network.status()[0]


async def test_plugins_of_1_1_say_whether_they_are_ready(
    network: PodNetwork, conf_dir: Path, plugins: FakePlugins, request_: PodNetworkRequest
) -> None:
    plugins.install("q", STATUS=fails(50, "its daemon is away"))
    swap(conf_dir, conflist("p", "q", version="1.1.0"))
    await network.refresh()
    ready, reason, message = network.status()
    assert (ready, reason) == (False, NOT_READY)
    assert message == "CNI plugin q failed STATUS [code 50]: its daemon is away"
    plugins.install("q")
    await network.refresh()
    assert network.status() == (True, "", "")
    plugins.forget()
    for _ in range(5):
        await network.refresh()
    assert plugins.steps() == []
    plugins.install("q", ADD=fails(50, "away again"), STATUS=fails(50, "away again"))
    with pytest.raises(Unavailable):
        await network.setup(request_)
    await network.refresh()
    assert not network.status()[0]


async def test_older_networks_are_not_asked(network: PodNetwork, plugins: FakePlugins) -> None:
    await network.refresh()
    await network.gc(lambda: attachments_of(["abc"]))
    assert plugins.steps() == []


async def test_garbage_collection_spares_what_others_keep(
    network: PodNetwork, conf_dir: Path, plugins: FakePlugins, cache: ResultCache, netns_dir: NetnsDir
) -> None:
    swap(conf_dir, conflist("p", version="1.1.0"))
    await network.refresh()
    cache.write(CacheEntry("fake-net", "theirs", "eth0", b"{}", "/proc/7/ns/net", result=RESULT))
    cache.write(CacheEntry("fake-net", "ours", "eth0", b"{}", str(netns_dir.path_of("ours")), result=RESULT))
    plugins.forget()
    await network.gc(lambda: attachments_of(["live"]))
    (call,) = plugins.calls()
    assert call.stdin["cni.dev/valid-attachments"] == [
        {"containerID": "live", "ifname": "eth0"},
        {"containerID": "theirs", "ifname": "eth0"},
    ]
    swap(conf_dir, conflist("p", version="1.1.0", disableGC=True))
    await network.refresh()
    plugins.forget()
    await network.gc(set)
    assert plugins.steps() == []


@pytest.fixture
async def collecting(network: PodNetwork, conf_dir: Path, plugins: FakePlugins) -> PodNetwork:
    """A network whose plugins offer GC."""
    swap(conf_dir, conflist("p", version="1.1.0"))
    await network.refresh()
    plugins.forget()
    return network


async def called(plugins: FakePlugins, steps: list[str]) -> None:
    await asyncio.to_thread(wait_until, lambda: plugins.steps() == steps, f"{steps}")


async def test_garbage_is_collected_when_no_pod_is_being_set_up(
    collecting: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    plugins.install("p", ADD=f"until [ -e {go} ]; do sleep 0.02; done; {prints(RESULT)}")
    held: set[str] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(collecting.setup(request_))
        await called(plugins, ["p ADD"])
        group.create_task(collecting.gc(lambda: attachments_of(held)))
        await asyncio.sleep(0.3)  # long enough for a plugin to be called
        assert plugins.steps() == ["p ADD"]
        held.add(request_.sandbox_id)
        go.touch()
    assert plugins.steps() == ["p ADD", "p GC"]
    valid = [{"containerID": request_.sandbox_id, "ifname": "eth0"}]
    assert plugins.calls()[1].stdin["cni.dev/valid-attachments"] == valid


async def test_no_pod_is_set_up_or_taken_down_while_garbage_is_collected(
    collecting: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    plugins.install("p", GC=f"until [ -e {go} ]; do sleep 0.02; done")
    async with asyncio.TaskGroup() as group:
        group.create_task(collecting.gc(set))
        await called(plugins, ["p GC"])
        group.create_task(collecting.setup(request_))
        given_up = group.create_task(collecting.teardown(PodNetworkRequest("other")))
        await asyncio.sleep(0.3)  # long enough for a plugin to be called
        assert plugins.steps() == ["p GC"]
        given_up.cancel()
        go.touch()
    assert plugins.steps() == ["p GC", "p ADD"]


async def test_garbage_collection_without_a_readable_cache_is_an_error_for_callers(
    collecting: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, settings: CniSettings
) -> None:
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    (settings.cache_dir / "results").touch()
    with pytest.raises(Unknown, match="Not a directory"):
        await collecting.gc(set)
    assert plugins.steps() == []
    (settings.cache_dir / "results").unlink()
    await collecting.setup(request_)


async def test_check_where_there_is_one(
    network: PodNetwork, request_: PodNetworkRequest, plugins: FakePlugins, conf_dir: Path
) -> None:
    await network.check(request_)
    await network.setup(request_)
    plugins.forget()
    await network.check(request_)
    assert plugins.steps() == ["p CHECK", "q CHECK"]
    assert plugins.calls()[0].stdin["prevResult"] == RESULT
    plugins.install("q", CHECK=fails(100, "the route is gone"))
    with pytest.raises(Unknown, match="the route is gone"):
        await network.check(request_)
    await network.teardown(request_)
    for text in (conflist("p", version="0.3.1"), conflist("p", disableCheck=True)):
        swap(conf_dir, text)
        await network.setup(request_)
        plugins.forget()
        await network.check(request_)
        assert plugins.steps() == []
        await network.teardown(request_)


async def test_addresses_are_known_after_a_restart(
    network: PodNetwork, request_: PodNetworkRequest, settings: CniSettings, netns_dir: NetnsDir
) -> None:
    status = await network.setup(request_)
    again = PodNetwork(settings, netns_dir)
    assert again.cached_status(request_.sandbox_id) == status
    assert again.cached_status("f" * 64) is None
    assert again.cached_status("../x") is None


async def test_the_sweep_clears_what_is_ours_and_lost(
    network: PodNetwork, netns_dir: NetnsDir, cache: ResultCache, plugins: FakePlugins
) -> None:
    for name in ("live", "lost"):
        path = await netns_dir.create(name)
        await network.setup(PodNetworkRequest(name, netns_path=str(path)))
    await netns_dir.create("bare")  # a crash before ADD began
    gone = CacheEntry("fake-net", "gone", "eth0", conflist("p"), str(netns_dir.path_of("gone")), result=RESULT)
    cache.write(gone)  # a crash after the namespace went
    cache.write(CacheEntry("fake-net", "theirs", "eth0", conflist("p"), "/proc/7/ns/net", result=RESULT))
    plugins.forget()
    assert await network.sweep({"live"}.__contains__) == ["bare", "gone", "lost"]
    assert netns_dir.names() == ["live"]
    assert {entry.container_id for entry in cache.entries()} == {"live", "theirs"}
    assert await network.sweep({"live"}.__contains__) == []


async def test_the_sweep_leaves_alone_what_is_made_meanwhile(network: PodNetwork, netns_dir: NetnsDir) -> None:
    live = set[str]()
    sweep = asyncio.ensure_future(network.sweep(live.__contains__))
    await asyncio.sleep(0)
    live.add("new")
    await netns_dir.create("new")
    assert await sweep == []
    assert netns_dir.names() == ["new"]


async def test_the_sweep_goes_on_past_a_failure(
    network: PodNetwork, netns_dir: NetnsDir, plugins: FakePlugins, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        path = await netns_dir.create(name)
        await network.setup(PodNetworkRequest(name, netns_path=str(path)))
    plugins.install("q", DEL='[ "$CNI_CONTAINERID" = b ] || exit 1')
    assert await network.sweep(lambda _: False) == ["b"]
    assert "cannot clear the network of lost sandbox a" in caplog.text
    assert netns_dir.names() == ["a"]


async def test_run_follows_in_the_background(
    network: PodNetwork, conf_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cri_dockerd_py.network.pod_network._REFRESH_S", 0.01)
    (conf_dir / "10-net.conflist").unlink()
    async with asyncio.TaskGroup() as group:
        job = group.create_task(network.run())
        await asyncio.to_thread(wait_until, lambda: not network.status()[0], "not ready")
        job.cancel()


async def test_plugin_times_are_observed(
    settings: CniSettings, netns_dir: NetnsDir, network: PodNetwork, request_: PodNetworkRequest, observed: Observed
) -> None:
    del network
    seen, observe = observed
    watched = PodNetwork(settings, netns_dir, observe)
    await watched.start()
    await watched.setup(request_)
    await watched.teardown(request_)
    assert [f"{plugin} {command} {ok}" for plugin, command, _seconds, ok in seen] == [
        "p ADD True",
        "q ADD True",
        "q DEL True",
        "p DEL True",
    ]


async def test_after_a_kill_in_the_middle_of_add_the_plugin_is_waited_for_and_undone(
    network: PodNetwork,
    netns_dir: NetnsDir,
    instance: str,
    settings: CniSettings,
    plugins: FakePlugins,
    cache: ResultCache,
    sandbox_id: str,
    tmp_path: Path,
) -> None:
    held = tmp_path / "allocated"
    plugins.install("q", ADD=f"touch {tmp_path}/in-add; sleep 1; touch {held}; {prints(RESULT)}", DEL=f"rm -f {held}")
    with crashing_setup.start(instance, settings, sandbox_id) as service:
        await asyncio.to_thread(wait_until, (tmp_path / "in-add").exists, "ADD")
        service.send_signal(signal.SIGKILL)
    assert not held.exists()
    assert await network.sweep(lambda _: False) == [sandbox_id]
    assert plugins.steps() == ["p ADD", "q ADD", "q DEL", "p DEL"]
    assert not held.exists()
    assert netns_dir.names() == []
    assert cache.entries() == []
