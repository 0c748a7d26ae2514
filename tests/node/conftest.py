"""A booted node with the package installed; the tests of this folder go through its life in their order."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import images
from tests.node.disk import node_disk
from tests.node.machine import DELIVERED, Machine
from tests.node.node import Node

REPOSITORY = Path(__file__).parents[2]
CNI_CONFLIST = REPOSITORY / "tests" / "node" / "10-node.conflist"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the node out of a run that does not ask for it: `make test-node` does."""
    if os.environ.get("CRI_TEST_NODE"):
        return
    here = Path(__file__).parent
    left_out = [item for item in items if here in item.path.parents]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the node itself has to say of it."""
    report = yield
    node = getattr(item, "funcargs", {}).get("node")
    if report.when == "call" and report.failed and node is not None:
        journal = node.machine.run("journalctl", "--no-pager", "-n", "60", "-u", "cri-dockerd-py", "-u", "docker")
        report.sections.append(("node's journal", journal.stdout + journal.stderr))
    return report


def build_package() -> Path:
    """Build the Debian package of this checkout."""
    built = subprocess.run(["packaging/deb/build"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return REPOSITORY / built.stdout.split()[-1]


def with_higher_version(package: Path, directory: Path) -> Path:
    """Pack the same with a higher version."""
    subprocess.run(["dpkg-deb", "-R", str(package), str(directory / "files")], check=True)
    control = directory / "files" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:", 1))
    newer = directory / "newer.deb"
    pack = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build"]
    subprocess.run([*pack, str(directory / "files"), str(newer)], check=True)
    return newer


def what_it_needs(directory: Path) -> dict[str, bytes]:
    """Make the files that are delivered to the node."""
    package = build_package()
    return {
        "service.deb": package.read_bytes(),
        "newer.deb": with_higher_version(package, directory).read_bytes(),
        "10-node.conflist": CNI_CONFLIST.read_bytes(),
        "busybox.tar": images.build(images.BUSYBOX).docker_archive([f"docker.io/{images.BUSYBOX}"]),
    }


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node, booted, with both engines running and nothing of ours installed yet."""
    machine = Machine(node_disk())
    try:
        with ThreadPoolExecutor(1) as beside:
            files = beside.submit(what_it_needs, tmp_path_factory.mktemp("node"))
            machine.boot()
            machine.deliver(files.result())
        machine.sh(f"install -D -m 0644 {DELIVERED}/10-node.conflist /etc/cni/net.d/10-node.conflist")
        yield Node(machine)
    finally:
        machine.close()
