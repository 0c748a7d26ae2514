from __future__ import annotations

import os
from pathlib import Path

import pytest

from cri_dockerd_py.network.cni_exec import PluginError
from cri_dockerd_py.network.cni_versions import PluginVersions, program_stamp
from tests.network.fake_plugins import FakePlugins, fails


async def test_asked_once_for_each_build(plugins: FakePlugins) -> None:
    versions = PluginVersions()
    path = plugins.install("p", versions=["0.4.0", "1.0.0"])
    for _ in range(3):
        assert await versions.of(str(path)) == {"0.4.0", "1.0.0"}
    assert plugins.version_count() == 1
    path = plugins.install("p", versions=["1.1.0"])
    os.utime(path, (1, 1))
    assert await versions.of(str(path)) == {"1.1.0"}
    assert plugins.version_count() == 2


async def test_plugins_older_than_the_verb(plugins: FakePlugins) -> None:
    path = plugins.install("p", version=fails(4, "unknown CNI_COMMAND: VERSION"))
    assert await PluginVersions().of(str(path)) == {"0.1.0"}
    path = plugins.install("q", version="echo '{}'; exit 0")
    assert await PluginVersions().of(str(path)) == {"0.1.0"}


@pytest.mark.parametrize("answer", ["echo garbage; exit 0", "exit 0", """echo '{"supportedVersions":[1]}'; exit 0"""])
async def test_nonsense_is_an_error_and_not_remembered(plugins: FakePlugins, answer: str) -> None:
    path = plugins.install("p", version=answer)
    versions = PluginVersions()
    for _ in range(2):
        with pytest.raises(PluginError):
            await versions.of(str(path))
    assert plugins.version_count() == 2


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p"
    assert program_stamp(str(path)) is None
    path.write_text("1")
    before = program_stamp(str(path))
    path.write_text("22")
    assert program_stamp(str(path)) != before
