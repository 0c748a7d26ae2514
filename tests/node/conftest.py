"""A booted node with the package installed; the tests of this folder go through its life in their order."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deb_package import build_package, with_higher_version
from tests.node.booted import booted_machine
from tests.node.disk import node_disk
from tests.node.node import Node


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


def packages(directory: Path) -> dict[str, bytes]:
    """Make the packages that are installed on the node."""
    package = build_package()
    return {"service.deb": package.read_bytes(), "newer.deb": with_higher_version(package, directory).read_bytes()}


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node, with both engines running and nothing of ours installed yet."""
    with ThreadPoolExecutor(1) as beside:
        files = beside.submit(packages, tmp_path_factory.mktemp("node"))
        machine = booted_machine(node_disk())
        try:
            machine.deliver(files.result())
            yield Node(machine)
        finally:
            machine.close()
