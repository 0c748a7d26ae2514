"""The test engines are what they say: versions, images, a second runtime, a registry, containers that survive."""

from __future__ import annotations

import pytest

from tests import images
from tests.engines import DockerEngine, RealEngine, RegistryServer


def test_engine_has_the_version_of_its_name(engine: RealEngine, engine_name: str) -> None:
    wanted = engine_name.split("-")[1]
    assert engine.version().startswith(f"{wanted}.")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_runtimes_run_the_test_image(docker_engine: DockerEngine, runtime: str) -> None:
    output = docker_engine.client.containers.run(
        images.USER_IN_GROUP, ["id"], network_mode="none", runtime=runtime, remove=True
    )
    assert b"uid=1000(default-user)" in output
    assert b"50000(group-defined-in-image)" in output


def test_images_have_the_same_id_every_time(engine: RealEngine) -> None:
    ids = {engine.load(images.build(images.BUSYBOX), images.BUSYBOX) for _ in range(2)}
    assert len(ids) == 1
    assert engine.holds(*ids)


def test_registry_takes_and_gives_images(docker_engine: DockerEngine, registry: RegistryServer) -> None:
    reference = f"{registry.address}/library/busybox:pushed"
    docker_engine.push(images.BUSYBOX, reference)
    image_id = docker_engine.client.images.get(images.BUSYBOX).id
    docker_engine.client.images.remove(reference)
    assert docker_engine.client.images.pull(reference).id == image_id


def test_containers_outlive_a_crash_of_the_engine(own_docker_engine: DockerEngine) -> None:
    container = own_docker_engine.client.containers.run(
        images.BUSYBOX, ["sleep", "300"], network_mode="none", detach=True
    )
    container.reload()
    pid = container.attrs["State"]["Pid"]
    own_docker_engine.kill()
    own_docker_engine.start()
    container.reload()
    assert container.attrs["State"]["Pid"] == pid
    assert container.status == "running"
