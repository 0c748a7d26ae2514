"""Version, Status, RuntimeConfig and UpdateRuntimeConfig."""

from __future__ import annotations

import json
import re
import time

import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb
from tests.behaviour.client import Cri, Pod, refused


@pytest.mark.behaviour("STA-01", "STA-02", "GEN-01", "GEN-02", "GEN-07")
@pytest.mark.parametrize("asked", ["", "0.1.0", "v1"])
def test_version_is_complete_whatever_is_asked(cri: Cri, asked: str) -> None:
    answer = cri("Version", version=asked)
    assert answer.version == "0.1.0"
    assert answer.runtime_name
    assert answer.runtime_version
    assert answer.runtime_api_version


@pytest.mark.behaviour("STA-03", "STA-04")
def test_versions_look_like_semantic_ones_and_the_name_is_a_url_scheme(cri: Cri) -> None:
    answer = cri("Version")
    assert re.match(r"v?\d+\.\d+\.\d+", answer.runtime_version)
    assert re.match(r"v?\d+(\.\d+\.\d+)?", answer.runtime_api_version)
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*", answer.runtime_name)
    assert cri("Version") == answer


@pytest.mark.behaviour("GEN-07")
def test_filesystem_info_answers_at_the_start(cri: Cri) -> None:
    assert cri("ImageFsInfo", deadline=5).image_filesystems


@pytest.mark.behaviour("STA-10", "STA-12", "STA-13")
def test_status_says_that_runtime_and_network_are_ready(status: pb.StatusResponse) -> None:
    conditions = {condition.type: condition for condition in status.status.conditions}
    assert conditions["RuntimeReady"].status
    assert conditions["NetworkReady"].status


@pytest.mark.behaviour("STA-14", "STA-07", "LOD-34")
def test_status_and_version_answer_at_once(cri: Cri) -> None:
    for method in ("Status", "Version"):
        started = time.monotonic()
        for _ in range(20):
            cri(method, deadline=1)
        assert (time.monotonic() - started) / 20 < 0.1


@pytest.mark.behaviour("STA-15")
def test_runtime_handlers_include_the_default_once(status: pb.StatusResponse) -> None:
    names = [handler.name for handler in status.runtime_handlers]
    assert names.count("") == 1
    assert len(set(names)) == len(names)


@pytest.mark.behaviour("STA-15", "STA-17")
def test_handlers_do_not_change_from_call_to_call(cri: Cri, status: pb.StatusResponse) -> None:
    again = cri("Status")
    by_name = {handler.name: handler.features for handler in again.runtime_handlers}
    assert by_name == {handler.name: handler.features for handler in status.runtime_handlers}
    assert again.features == status.features


@pytest.mark.behaviour("STA-18", "STA-11")
def test_verbose_status_carries_valid_json_and_plain_status_nothing(cri: Cri) -> None:
    assert not cri("Status").info
    info = cri("Status", verbose=True).info
    assert info
    for value in info.values():
        if value.startswith("{"):
            json.loads(value)


@pytest.mark.behaviour("STA-20", "STA-21")
def test_runtime_config_names_one_cgroup_driver(cri: Cri) -> None:
    answer = cri("RuntimeConfig")
    assert answer.HasField("linux")
    assert answer.linux.cgroup_driver in (pb.SYSTEMD, pb.CGROUPFS)
    assert cri("RuntimeConfig") == answer


@pytest.mark.behaviour("STA-22", "IDM-13")
@pytest.mark.parametrize("pod_cidr", ["", "10.88.0.0/24", "10.88.0.0/24,fd00:88::/64"])
def test_runtime_config_can_be_updated_any_number_of_times(cri: Cri, pod_cidr: str) -> None:
    network_config = pb.NetworkConfig(pod_cidr=pod_cidr)
    for _ in range(2):
        cri("UpdateRuntimeConfig", runtime_config=pb.RuntimeConfig(network_config=network_config))


@pytest.mark.behaviour("STA-22", "GEN-16")
def test_malformed_pod_range_is_refused(cri: Cri) -> None:
    with refused():
        cri(
            "UpdateRuntimeConfig",
            runtime_config=pb.RuntimeConfig(network_config=pb.NetworkConfig(pod_cidr="10.88.0.0/24,nonsense")),
        )


@pytest.mark.behaviour("STA-22", "GEN-16")
def test_update_without_a_config_does_nothing(cri: Cri) -> None:
    cri("UpdateRuntimeConfig")


@pytest.mark.behaviour("STA-16", "CST-14")
def test_claimed_group_policy_is_shown_in_the_user(cri: Cri, status: pb.StatusResponse, pod: Pod) -> None:
    if not status.features.supplemental_groups_policy:
        pytest.skip("this node does not claim supplemental_groups_policy")
    assert pod.start().status().user.HasField("linux")
