"""A configured image for pods' own processes, in place of the built-in one."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import pytest

from cri_dockerd_py.pause.image import pause_image
from tests.behaviour.client import host_pids
from tests.behaviour.conftest import OWN_SERVICE, service_client
from tests.behaviour.registries import push
from tests.cri_server import CriServer
from tests.engines import RealEngine, RegistryServer

pytestmark = OWN_SERVICE


@pytest.mark.behaviour("IMG-10")
def test_configured_image_is_pulled_run_and_pinned(
    own_engine: RealEngine, registry: RegistryServer, start_server: Callable[..., CriServer]
) -> None:
    reference = push(registry.address, "another-pause", "2", pause_image(platform.machine()))
    with service_client(start_server(own_engine, [f"--pod-infra-container-image={reference}"])) as cri:
        pod = cri.run_pod()
        (pid,) = host_pids(pod.id)
        assert os.readlink(f"/proc/{pid}/exe") == "/pause"
        assert [list(image.repo_tags) for image in cri("ListImages").images if image.pinned] == [[reference]]
        container = pod.start()
        assert container.exec("true").exit_code == 0
        pod.remove()
