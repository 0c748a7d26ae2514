from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cri_dockerd_py.network.cni_chain import Attachment, PluginChain
from cri_dockerd_py.network.cni_conf import NetworkConf, parse_conf_list
from cri_dockerd_py.network.cni_exec import PluginError, PluginMissingError, PluginTimeoutError
from tests.network.fake_plugins import RESULT, FakePlugins, conflist, fails, prints

ATTACHMENT = Attachment(
    "abc", "eth0", "/run/netns/x", (("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")), {"portMappings": [1]}
)
Observed = tuple[list[tuple[str, str, float, bool]], Callable[[str, str, float, bool], None]]


@pytest.fixture
def chain(plugins: FakePlugins) -> PluginChain:
    return PluginChain([str(plugins.bin_dir), "/also/here"])


def two(version: str = "1.0.0") -> NetworkConf:
    return parse_conf_list(conflist("one", {"type": "two", "capabilities": {"portMappings": True}}, version=version))


def soon(seconds: float = 20.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_add_hands_each_result_on(plugins: FakePlugins, chain: PluginChain) -> None:
    second = {**RESULT, "ips": [{"address": "10.9.8.9/24"}]}
    plugins.install("one")
    plugins.install("two", ADD=prints(second))
    assert await chain.add(two(), "1.0.0", ATTACHMENT, soon(), None) == second
    first_call, second_call = plugins.calls()
    assert first_call.env == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "abc",
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_PATH": f"{plugins.bin_dir}:/also/here",
    }
    assert first_call.stdin == {"type": "one", "name": "fake-net", "cniVersion": "1.0.0"}
    assert second_call.stdin["prevResult"] == RESULT
    assert second_call.stdin["runtimeConfig"] == {"portMappings": [1]}


async def test_a_result_of_another_version_is_converted_for_the_next(plugins: FakePlugins, chain: PluginChain) -> None:
    plugins.install("one", ADD=prints({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}))
    plugins.install("two")
    await chain.add(two(), "1.0.0", ATTACHMENT, soon(), None)
    assert plugins.calls()[1].stdin["prevResult"] == {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}


@pytest.mark.parametrize("answer", ["echo garbage", "true", prints([]), prints({"ips": [{"address": "x"}]})])
async def test_a_garbage_result_ends_the_chain(plugins: FakePlugins, chain: PluginChain, answer: str) -> None:
    plugins.install("one", ADD=answer)
    plugins.install("two")
    with pytest.raises(PluginError, match="plugin one failed ADD"):
        await chain.add(two("0.4.0"), "0.4.0", ATTACHMENT, soon(), None)
    assert plugins.steps() == ["one ADD"]


@pytest.mark.parametrize(("version", "has_result"), [("0.3.1", False), ("0.4.0", True), ("1.1.0", True)])
async def test_del_goes_backwards(plugins: FakePlugins, chain: PluginChain, version: str, has_result: bool) -> None:
    plugins.install("one")
    plugins.install("two")
    await chain.delete(two(version), version, ATTACHMENT, RESULT, soon(), None)
    assert plugins.steps() == ["two DEL", "one DEL"]
    for call in plugins.calls():
        assert call.stdin.get("prevResult") == (RESULT if has_result else None)
        assert call.env["CNI_NETNS"] == "/run/netns/x"


async def test_del_stops_at_a_failure(plugins: FakePlugins, chain: PluginChain) -> None:
    plugins.install("one")
    plugins.install("two", DEL=fails(5, "iptables is busy"))
    with pytest.raises(PluginError, match="iptables is busy"):
        await chain.delete(two(), "1.0.0", ATTACHMENT, None, soon(), None)
    assert plugins.steps() == ["two DEL"]


@pytest.mark.parametrize(
    ("answer", "netns", "goes_on"),
    [
        (fails(3, "who?"), "/x", True),
        (fails(7, "interface eth0 not found"), "/x", True),
        (fails(7, "open /proc/1/ns/net: no such file or directory"), "", True),
        (fails(7, "open /proc/1/ns/net: no such file or directory"), "/x", False),
        (fails(7, "exec: iptables: executable file not found in $PATH"), "", False),
    ],
)
async def test_del_of_what_is_gone(
    plugins: FakePlugins, chain: PluginChain, answer: str, netns: str, goes_on: bool
) -> None:
    plugins.install("one")
    plugins.install("two", DEL=answer)
    attachment = Attachment("abc", "eth0", netns, ())
    if goes_on:
        await chain.delete(two(), "1.0.0", attachment, None, soon(), None)
        assert plugins.steps() == ["two DEL", "one DEL"]
    else:
        with pytest.raises(PluginError):
            await chain.delete(two(), "1.0.0", attachment, None, soon(), None)


async def test_check_and_status_and_gc(plugins: FakePlugins, chain: PluginChain) -> None:
    plugins.install("one")
    plugins.install("two", CHECK=fails(99, "the link is down"), STATUS=fails(50, "no daemon"), GC=fails(1, "cannot"))
    conf = two("1.1.0")
    with pytest.raises(PluginError, match="the link is down"):
        await chain.check(conf, "1.1.0", ATTACHMENT, RESULT, soon())
    with pytest.raises(PluginError, match=r"\[code 50\]: no daemon"):
        await chain.status(conf, "1.1.0", {}, soon())
    assert [call.stdin.get("prevResult") for call in plugins.calls()] == [RESULT, RESULT, None, None]
    assert "CNI_CONTAINERID" not in plugins.calls()[-1].env


async def test_gc_tells_every_plugin_even_after_a_failure(plugins: FakePlugins, chain: PluginChain) -> None:
    plugins.install("one", GC=fails(1, "cannot"))
    plugins.install("two")
    with pytest.raises(PluginError, match="cannot"):
        await chain.collect_garbage(two("1.1.0"), "1.1.0", [("abc", "eth0")], soon())
    valid = [{"containerID": "abc", "ifname": "eth0"}]
    assert plugins.steps() == ["one GC", "two GC"]
    for call in plugins.calls():
        assert call.stdin["cni.dev/valid-attachments"] == call.stdin["cni.dev/attachments"] == valid


async def test_one_deadline_for_the_whole_chain(plugins: FakePlugins, chain: PluginChain) -> None:
    plugins.install("one", DEL="exec sleep 60")
    plugins.install("two", DEL="sleep 0.5")
    with pytest.raises(PluginTimeoutError, match="plugin one failed DEL"):
        await chain.delete(two(), "1.0.0", ATTACHMENT, None, soon(2.0), None)
    with pytest.raises(PluginTimeoutError, match="before its turn"):
        await chain.delete(two(), "1.0.0", ATTACHMENT, None, soon(0), None)


async def test_a_missing_plugin_is_named_with_where_it_should_be(plugins: FakePlugins, chain: PluginChain) -> None:
    with pytest.raises(PluginMissingError, match=f"plugin one .*{plugins.bin_dir}:/also/here"):
        await chain.add(two(), "1.0.0", ATTACHMENT, soon(), None)


async def test_calls_are_observed(plugins: FakePlugins, observed: Observed) -> None:
    seen, observe = observed
    plugins.install("one")
    plugins.install("two", ADD=fails(7, "no"))
    with pytest.raises(PluginError):
        await PluginChain([str(plugins.bin_dir)], observe).add(two(), "1.0.0", ATTACHMENT, soon(), None)
    assert [(plugin, command, ok) for plugin, command, _seconds, ok in seen] == [
        ("one", "ADD", True),
        ("two", "ADD", False),
    ]
    assert all(0 < seconds < 20 for _plugin, _command, seconds, _ok in seen)
