from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cri_dockerd_py.network.cni_cache import CacheEntry, ResultCache

CONTAINER = "4f0cfe5dd7ad8d7d8ff5bb0b2b0b8a4d3a39c2c6e4b1b8b1a2d5c0f1e3a4b5c6"
CONFIG = b'{"cniVersion":"0.4.0","name":"pod-net","plugins":[{"type":"bridge"}]}'
ENTRY = CacheEntry(
    network_name="pod-net",
    container_id=CONTAINER,
    ifname="eth0",
    config=CONFIG,
    netns_path="/proc/4242/ns/net",
    cni_args=(("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")),
    capability_args={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]},
    result={"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.88.0.2/16"}]},
)
GOLDEN: dict[str, Any] = {
    "kind": "cniCacheV1",
    "containerId": CONTAINER,
    "config": base64.b64encode(CONFIG).decode(),
    "ifName": "eth0",
    "networkName": "pod-net",
    "netns": "/proc/4242/ns/net",
    "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
    "capabilityArgs": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]},
    "result": {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.88.0.2/16"}]},
}
FILE = f"pod-net-{CONTAINER}-eth0"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


def test_the_file_is_libcnis(tmp_path: Path) -> None:
    ResultCache(tmp_path).write(ENTRY)
    path = tmp_path / "results" / FILE
    written = json.loads(path.read_text())
    assert written == GOLDEN
    assert list(written) == list(GOLDEN)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [FILE]


def test_libcnis_file_is_read(tmp_path: Path, results: Path) -> None:
    (results / FILE).write_text(json.dumps(GOLDEN, indent=1))
    assert ResultCache(tmp_path).entries_of(CONTAINER) == [ENTRY]
    assert ResultCache(tmp_path).entries() == [ENTRY]


def test_a_file_of_cri_dockerd_without_netns_and_with_nulls(tmp_path: Path, results: Path) -> None:
    fields = {**GOLDEN, "cniArgs": None, "capabilityArgs": None}
    del fields["netns"]
    (results / FILE).write_text(json.dumps(fields))
    (entry,) = ResultCache(tmp_path).entries_of(CONTAINER)
    assert (entry.netns_path, entry.cni_args, entry.capability_args) == ("", (), {})
    assert entry.config == CONFIG


def test_a_bare_result_is_known_by_its_name(tmp_path: Path, results: Path) -> None:
    (results / FILE).write_text(json.dumps(GOLDEN["result"]))
    (entry,) = ResultCache(tmp_path).entries_of(CONTAINER)
    assert (entry.network_name, entry.ifname, entry.config) == ("pod-net", "eth0", b"")
    assert entry.result == GOLDEN["result"]
    assert ResultCache(tmp_path).entries() == []


def test_an_attachment_that_has_only_begun(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    begun = CacheEntry("pod-net", CONTAINER, "eth0", CONFIG)
    assert cache.begin(begun) == []
    assert cache.entries_of(CONTAINER) == [begun]
    assert cache.begin(ENTRY) == [begun]
    cache.write(ENTRY)
    assert cache.entries_of(CONTAINER) == [ENTRY]


def test_removal_takes_loopback_along_and_may_be_repeated(tmp_path: Path, results: Path) -> None:
    cache = ResultCache(tmp_path)
    cache.write(ENTRY)
    for ifname in ("lo", "eth0"):
        (results / f"cni-loopback-{CONTAINER}-{ifname}").write_text("{}")
    (results / "cni-loopback-other-lo").write_text("{}")
    assert cache.entries_of(CONTAINER) == [ENTRY]
    cache.remove(ENTRY)
    cache.remove(ENTRY)
    assert os.listdir(results) == ["cni-loopback-other-lo"]


def test_results_of_another_runtime_are_read_and_removed_but_never_written(tmp_path: Path) -> None:
    ResultCache(tmp_path / "theirs").write(ENTRY)
    theirs, ours = tmp_path / "theirs/results", tmp_path / "results"
    (theirs / f"cni-loopback-{CONTAINER}-lo").write_text("{}")
    cache = ResultCache(tmp_path, [tmp_path / "theirs", tmp_path / "absent", tmp_path])
    assert cache.entries() == cache.entries_of(CONTAINER) == [ENTRY]
    newer = replace(ENTRY, netns_path="")
    cache.write(newer)
    assert cache.entries_of(CONTAINER) == [newer]
    assert os.listdir(ours) == [FILE]
    cache.remove(newer)
    assert os.listdir(ours) == os.listdir(theirs) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        json.dumps({**GOLDEN, "kind": "cniCacheV2"}),
        json.dumps({**GOLDEN, "containerId": "other"}),
        json.dumps({**GOLDEN, "networkName": "../x"}),
        json.dumps({**GOLDEN, "config": "%%%"}),
        json.dumps({**GOLDEN, "cniArgs": [["a"]]}),
        json.dumps({**GOLDEN, "cniArgs": [["a", "b\0c"]]}),
        json.dumps({**GOLDEN, "result": []}),
        json.dumps({**GOLDEN, "padding": "x" * (1 << 20)}),
    ],
)
def test_unusable_files_are_passed_over(
    tmp_path: Path, results: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (results / FILE).write_text(text)
    assert ResultCache(tmp_path).entries_of(CONTAINER) == []
    assert FILE in caplog.text


def test_links_pipes_and_directories_are_not_read(tmp_path: Path, results: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(GOLDEN))
    (results / FILE).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(results / f"a-{CONTAINER}-eth0")
    (results / f"b-{CONTAINER}-eth0").mkdir()
    assert ResultCache(tmp_path).entries_of(CONTAINER) == []


def test_a_missing_directory_is_empty(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "none")
    assert cache.entries() == []
    cache.remove(ENTRY)
    cache.remove_leftovers()


def test_half_written_files_are_invisible_and_cleared_at_start(tmp_path: Path, results: Path) -> None:
    (results / f".new-{FILE}").write_text(json.dumps(GOLDEN))
    cache = ResultCache(tmp_path)
    assert cache.entries_of(CONTAINER) == []
    cache.remove_leftovers()
    assert os.listdir(results) == []


@pytest.mark.parametrize("part", ["", "../x", "a/b", "."])
def test_parts_of_the_name_cannot_leave_the_directory(tmp_path: Path, part: str) -> None:
    for parts in ((part, "id", "eth0"), ("net", part, "eth0"), ("net", "id", part)):
        with pytest.raises(ValueError, match="not an attachment"):
            ResultCache(tmp_path).path_of(*parts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}", fullmatch=True).filter(lambda n: n != "cni-loopback"),
    config=st.binary(max_size=50),
    args=st.lists(st.tuples(st.text("abc", min_size=1), st.text("xyz")), max_size=3),
    result=st.none() | st.dictionaries(st.text("ab", min_size=1), st.integers(), min_size=1),
)
def test_what_is_written_is_read(
    tmp_path: Path, network: str, config: bytes, args: list[tuple[str, str]], result: dict[str, Any] | None
) -> None:
    entry = CacheEntry(network, CONTAINER, "eth0", config, "/run/netns/x", tuple(args), {"a": [1]}, result)
    cache = ResultCache(tmp_path)
    cache.write(entry)
    assert cache.entries_of(CONTAINER) == [entry]
    cache.remove(entry)
