"""SELinux labels and AppArmor profiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cri_dockerd_py.backends.containerd.oci.apparmor import DEFAULT_PROFILE, apparmor_profile, default_profile_text
from cri_dockerd_py.backends.containerd.oci.facts import SelinuxContexts, SelinuxLabels
from cri_dockerd_py.backends.containerd.oci.inputs import Profiles
from cri_dockerd_py.backends.containerd.oci.selinux import container_labels, pod_level, sandbox_labels
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import ContainerSecurity, ProfileType, SecurityProfile, SelinuxOptions
from tests.backends.containerd.oci.values import FACTS, OWN_PID, container, container_document

CONTEXTS = SelinuxContexts("system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0")
LEVEL = "s0:c1,c2"
POD = SelinuxLabels(f"system_u:system_r:container_t:{LEVEL}", f"system_u:object_r:container_file_t:{LEVEL}")
WITH_APPARMOR = replace(FACTS, apparmor=True)
DEFAULT, UNCONFINED = SecurityProfile(ProfileType.RUNTIME_DEFAULT), SecurityProfile(ProfileType.UNCONFINED)


def local(name: str) -> SecurityProfile:
    """Return a profile of the node."""
    return SecurityProfile(ProfileType.LOCALHOST, name)


# --- SELinux


@pytest.mark.behaviour("SEL-02", "SEL-03")
def test_labels_of_a_pod_and_its_containers() -> None:
    pod = sandbox_labels(None, CONTEXTS, LEVEL, privileged=False)
    assert pod == POD
    assert container_labels(None, pod, CONTEXTS, privileged=False) == POD


@pytest.mark.behaviour("SEL-01")
def test_own_options() -> None:
    options = SelinuxOptions(user="u", role="r", type="t", level="s1:c3.c7,c9")
    labels = SelinuxLabels("u:r:t:s1:c3.c7,c9", "u:object_r:container_file_t:s1:c3.c7,c9")
    assert sandbox_labels(options, CONTEXTS, LEVEL, privileged=False) == labels
    assert container_labels(options, POD, CONTEXTS, privileged=False) == labels
    only_type = container_labels(SelinuxOptions(type="t"), POD, CONTEXTS, privileged=False)
    assert only_type == SelinuxLabels(f"system_u:system_r:t:{LEVEL}", POD.mount)


@pytest.mark.behaviour("CAP-04", "SEL-03")
def test_privileged_process_has_no_label_of_its_own() -> None:
    pod = sandbox_labels(None, CONTEXTS, LEVEL, privileged=True)
    assert pod == SelinuxLabels("", POD.mount)
    assert container_labels(None, pod, CONTEXTS, privileged=True) == pod
    assert container_labels(None, pod, CONTEXTS, privileged=False) == POD


@pytest.mark.behaviour("SEL-04")
def test_without_selinux_there_are_no_labels() -> None:
    options = SelinuxOptions(level="nonsense")
    assert sandbox_labels(options, None, LEVEL, privileged=False) == SelinuxLabels()
    assert container_labels(options, POD, None, privileged=False) == SelinuxLabels()


@pytest.mark.behaviour("SEL-01")
@pytest.mark.parametrize("level", ["s", "x0", "s0:", "s0:c1-c2", "s0:c1,", "s12345", "s0:c1;c2", "s0 ", "s0:c12345"])
def test_unusable_level_is_refused(level: str) -> None:
    with pytest.raises(InvalidArgument, match="level"):
        sandbox_labels(SelinuxOptions(level=level), CONTEXTS, LEVEL, privileged=False)


@pytest.mark.parametrize("level", ["s0", "s0-s15", "s0-s0:c0.c1023", "s15:c1", "s0:c1,c2.c4,c1000"])
def test_usable_levels(level: str) -> None:
    labels = sandbox_labels(SelinuxOptions(level=level), CONTEXTS, LEVEL, privileged=False)
    assert labels.process == f"system_u:system_r:container_t:{level}"


@pytest.mark.behaviour("NSP-10")
def test_levels_of_pods_differ() -> None:
    levels = [pod_level(f"pod-{number}") for number in range(200)]
    assert pod_level("pod-7") == levels[7]
    again = pod_level("pod-7", used={levels[7]})
    assert again != levels[7]
    assert len(set(levels)) > 190
    for level in levels:
        sandbox_labels(SelinuxOptions(level=level), CONTEXTS, "", privileged=False)


# --- AppArmor


@pytest.mark.behaviour("AAR-01")
def test_host_without_apparmor() -> None:
    for harmless in (None, UNCONFINED):
        assert apparmor_profile(harmless, FACTS, None, privileged=False) == ""
    for profile in (DEFAULT, local("x")):
        with pytest.raises(InvalidArgument, match="no AppArmor"):
            apparmor_profile(profile, FACTS, None, privileged=False)


@pytest.mark.behaviour("AAR-02", "AAR-03", "AAR-04", "CAP-04")
@pytest.mark.parametrize(
    ("profile", "privileged", "name"),
    [
        (None, False, DEFAULT_PROFILE),
        (None, True, ""),
        (DEFAULT, False, DEFAULT_PROFILE),
        (DEFAULT, True, ""),
        (UNCONFINED, False, ""),
        (local("mine"), False, "mine"),
        (local("localhost/mine"), False, "mine"),
        (local("mine"), True, "mine"),
    ],
)
def test_profiles(profile: SecurityProfile | None, privileged: bool, name: str) -> None:
    assert apparmor_profile(profile, WITH_APPARMOR, {"mine"}, privileged=privileged) == name


@pytest.mark.behaviour("AAR-03")
def test_profile_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="apparmor_parser"):
        apparmor_profile(local("mine"), WITH_APPARMOR, {"mine2"}, privileged=False)
    assert apparmor_profile(local("mine"), WITH_APPARMOR, None, privileged=False) == "mine"


def test_profile_is_in_the_spec() -> None:
    security = ContainerSecurity(namespaces=OWN_PID, apparmor=local("mine"))
    profiles = Profiles(apparmor_loaded=frozenset({"mine"}))
    document = container_document(container(security), facts=WITH_APPARMOR, profiles=profiles)
    assert document["process"]["apparmorProfile"] == "mine"
    assert container_document(facts=WITH_APPARMOR)["process"]["apparmorProfile"] == DEFAULT_PROFILE


def test_default_profile_text() -> None:
    text = default_profile_text(tunables=True, abstractions=True, own_profile="containerd")
    assert text.startswith("#include <tunables/global>\nprofile cri-containerd.apparmor.d flags=(")
    assert "  signal (receive) peer=containerd,\n" in text
    assert "  deny @{PROC}/sysrq-trigger rwklx,\n" in text
    assert text.endswith("}\n")
    bare = default_profile_text(tunables=False, abstractions=False)
    assert bare.startswith("@{PROC}=/proc/\n")
    assert "#include" not in bare
    assert bare.count("peer=unconfined") == 1
