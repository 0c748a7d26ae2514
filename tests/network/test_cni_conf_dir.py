from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cri_dockerd_py.network.cni_conf_dir import ConfDir
from tests.network.fake_plugins import FakePlugins, conflist


@pytest.fixture
def confs(conf_dir: Path, plugins: FakePlugins) -> ConfDir:
    plugins.install("p")
    return ConfDir(str(conf_dir), [str(plugins.bin_dir)])


def put(path: Path, text: bytes) -> None:
    """Replace a file as careful installers do."""
    draft = path.parent / ".draft"
    draft.write_bytes(text)
    os.rename(draft, path)


def age(path: Path) -> None:
    os.utime(path, (1_000_000, 1_000_000))


def name(confs: ConfDir) -> str | None:
    return confs.current.conf.name if confs.current else None


async def test_the_first_valid_file_in_byte_order_wins(conf_dir: Path, confs: ConfDir) -> None:
    put(conf_dir / "10-b.conflist", conflist("p", name="b"))
    put(conf_dir / "10-a.txt", conflist("p", name="text"))
    put(conf_dir / "10-Z.json", b'{"cniVersion":"0.4.0","name":"z","type":"p"}')
    put(conf_dir / "05-broken.conflist", b"{")
    put(conf_dir / "06-missing.conflist", conflist("absent", name="missing"))
    (conf_dir / "00-dir.conflist").mkdir()
    await confs.refresh()
    assert confs.current is not None
    assert (name(confs), confs.current.version, confs.problem) == ("z", "0.4.0", "")


async def test_skipped_files_are_logged_with_the_reason(
    conf_dir: Path, confs: ConfDir, caplog: pytest.LogCaptureFixture
) -> None:
    put(conf_dir / "1.conflist", conflist("absent"))
    put(conf_dir / "2.conflist", conflist("p"))
    await confs.refresh()
    assert "1.conflist: plugin absent is not in" in caplog.text


async def test_nothing_there_says_where(tmp_path: Path, conf_dir: Path, confs: ConfDir) -> None:
    await confs.refresh()
    assert name(confs) is None
    assert f"no network configuration in {conf_dir}" in confs.problem
    missing = ConfDir(str(tmp_path / "none"), [])
    await missing.refresh()
    assert "no network configuration in" in missing.problem


async def test_only_invalid_files_say_why(conf_dir: Path, confs: ConfDir) -> None:
    put(conf_dir / "1.conflist", conflist("p", version="3.0.0"))
    await confs.refresh()
    assert "1.conflist: cniVersion '3.0.0' is unknown" in confs.problem


async def test_changes_are_followed(conf_dir: Path, confs: ConfDir) -> None:
    put(conf_dir / "5.conflist", conflist("p", name="five"))
    await confs.refresh()
    put(conf_dir / "1.conflist", conflist("p", name="one"))
    await confs.refresh()
    assert name(confs) == "one"
    put(conf_dir / "1.conflist", conflist("p", name="uno"))
    await confs.refresh()
    assert name(confs) == "uno"
    (conf_dir / "1.conflist").unlink()
    await confs.refresh()
    assert name(confs) == "five"
    (conf_dir / "5.conflist").unlink()
    await confs.refresh()
    assert name(confs) is None
    assert confs.problem


async def test_a_file_that_is_being_rewritten_keeps_the_last_good(conf_dir: Path, confs: ConfDir) -> None:
    path = conf_dir / "1.conflist"
    put(path, conflist("p", name="one"))
    put(conf_dir / "2.conflist", conflist("p", name="two"))
    await confs.refresh()
    path.write_bytes(conflist("p", name="one")[:20])
    await confs.refresh()
    assert name(confs) == "one"
    path.write_bytes(conflist("p", name="uno"))
    await confs.refresh()
    assert name(confs) == "uno"


async def test_a_file_that_stays_broken_gives_way(conf_dir: Path, confs: ConfDir) -> None:
    path = conf_dir / "1.conflist"
    put(path, conflist("p", name="one"))
    put(conf_dir / "2.conflist", conflist("p", name="two"))
    await confs.refresh()
    path.write_bytes(b"{")
    await confs.refresh()
    assert name(confs) == "one"
    age(path)
    await confs.refresh()
    assert name(confs) == "two"


async def test_the_only_file_broken_keeps_the_last_good(conf_dir: Path, confs: ConfDir) -> None:
    path = conf_dir / "1.conflist"
    put(path, conflist("p", name="one"))
    await confs.refresh()
    path.write_bytes(b"{")
    age(path)
    await confs.refresh()
    assert name(confs) == "one"
    path.rename(conf_dir / "2.conflist")
    await confs.refresh()
    assert name(confs) == "one"


async def test_plugins_that_come_and_go(conf_dir: Path, confs: ConfDir, plugins: FakePlugins) -> None:
    put(conf_dir / "1.conflist", conflist("late", name="one"))
    await confs.refresh()
    assert name(confs) is None
    plugins.install("late")
    await confs.refresh()
    assert name(confs) == "one"
    (plugins.bin_dir / "late").unlink()
    await confs.refresh()
    assert name(confs) is None
    assert "plugin late is not in" in confs.problem


async def test_an_upgraded_plugin_is_asked_again(conf_dir: Path, confs: ConfDir, plugins: FakePlugins) -> None:
    put(conf_dir / "1.conflist", conflist("p", cniVersions=["0.4.0", "1.1.0"]))
    plugins.install("p", versions=["0.4.0", "1.0.0"])
    await confs.refresh()
    assert confs.current is not None
    assert confs.current.version == "1.0.0"
    plugins.install("p", versions=["0.4.0", "1.0.0", "1.1.0"])
    await confs.refresh()
    assert confs.current.version == "1.1.0"


async def test_nothing_is_executed_while_nothing_changes(conf_dir: Path, confs: ConfDir, plugins: FakePlugins) -> None:
    put(conf_dir / "1.conflist", conflist("p", "p"))
    await confs.refresh()
    for _ in range(20):
        await confs.refresh()
    assert plugins.version_count() == 1


async def test_refreshes_at_the_same_time_read_once(conf_dir: Path, confs: ConfDir, plugins: FakePlugins) -> None:
    put(conf_dir / "1.conflist", conflist("p"))
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(confs.refresh())
    assert plugins.version_count() == 1


async def test_files_that_are_no_files(conf_dir: Path, confs: ConfDir) -> None:
    os.mkfifo(conf_dir / "1.conflist")
    (conf_dir / "2.conflist").symlink_to("/nowhere")
    (conf_dir / "3.conflist").write_bytes(b" " * (1 << 20) + conflist("p", name="huge"))
    put(conf_dir / "4.conflist", conflist("p", name="four"))
    await confs.refresh()
    assert name(confs) == "four"
