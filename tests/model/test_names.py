"""Docker names of sandboxes and containers, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.model.container import ContainerMetadata
from cri_dockerd_py.model.names import container_name, parse_name, sandbox_name
from cri_dockerd_py.model.sandbox import PodMetadata

POD = PodMetadata("foo", "iamuid", "bar", 3)
WORD = st.text(st.characters(whitelist_categories=("Ll", "Nd"), max_codepoint=127), min_size=1, max_size=10)


def test_names_are_dockershims() -> None:
    assert sandbox_name(POD) == "k8s_POD_foo_bar_iamuid_3"
    assert container_name(ContainerMetadata("nginx", 5), POD) == "k8s_nginx_foo_bar_iamuid_5"


@given(WORD, WORD, WORD, WORD, st.integers(0, 2**32 - 1), st.sampled_from(["", "_0009ab12"]))
def test_what_is_written_is_read_back(
    container: str, pod: str, namespace: str, uid: str, attempt: int, suffix: str
) -> None:
    metadata = PodMetadata(pod, uid, namespace, attempt)
    parsed = parse_name("/" + sandbox_name(metadata) + suffix)
    assert parsed is not None
    assert parsed.sandbox_metadata == metadata
    of_container = parse_name(container_name(ContainerMetadata(container, attempt), metadata) + suffix)
    assert of_container is not None
    assert of_container.container_metadata == ContainerMetadata(container, attempt)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "web",
        "k8s_POD_foo_bar_iamuid",
        "k8s_POD_foo_bar_iamuid_3_ab_cd",
        "k9s_POD_foo_bar_iamuid_3",
        "k8s_POD_foo_bar_iamuid_x",
        "k8s_POD_foo_bar_iamuid_-1",
        "k8s_POD_foo_bar_iamuid_4294967296",
        "k8s_POD_foo_bar_iamuid_³",
        "k8s_POD_f_o_bar_iamuid_3",
        "//k8s_POD_foo_bar_iamuid_3",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert parse_name(name) is None
