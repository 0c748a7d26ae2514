"""The support bundle on a node whose every part shows secrets."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from cri_dockerd_py.doctor import bundle
from cri_dockerd_py.settings import Settings

_WORDS = """HTTPS_PROXY=http://user:SECRET@proxy.example:3128 \
DB_PASSWORD=SECRET "VAULT_TOKEN=SECRET SECRET" MY_SECRET=SECRET kept=word https://SECRET@registry.example/v2/"""
_PROGRAM = f"""#!/bin/sh
cat <<'WORDS'
{_WORDS}
WORDS
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    for command in bundle._COMMANDS.values():
        program = directory / command[0]
        program.write_text(f'{_PROGRAM}echo asked: "$*"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    file = tmp_path / "cmdline"
    file.write_text(_WORDS)
    monkeypatch.setattr(bundle, "_FILES", (str(file),))


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {name.partition("/")[2]: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]


@pytest.mark.usefixtures("programs")
def test_no_part_goes_around_the_filter(tmp_path: Path) -> None:
    settings = Settings(
        root_dir=tmp_path / "root",
        state_dir=tmp_path / "state",
        backend="docker",
        docker_endpoint=f"unix://{tmp_path}/none.sock",
        tracing_endpoint="http://user:SECRET@collector.example:4317",
        cni_conf_dir=tmp_path / "DB_PASSWORD=SECRET",
    )
    settings.root_dir.mkdir()
    with sqlite3.connect(settings.root_dir / "state.db") as database:
        database.execute("CREATE TABLE choices (key TEXT, value TEXT)")
        database.execute("INSERT INTO choices VALUES ('words', ?)", (_WORDS,))

    def status() -> str:
        raise ValueError(f"refused: {_WORDS}")

    names = bundle.write_bundle(tmp_path / "dump.tar.gz", settings, status)

    contents = read(tmp_path / "dump.tar.gz")
    assert list(contents) == names
    assert {name for name, text in contents.items() if "SECRET" in text.replace("MY_SECRET=", "")} == set()
    showing = {"settings.json", "doctor.json", "status.json", "records.json", *bundle._COMMANDS}
    assert {name for name, text in contents.items() if "<redacted>" in text} == {
        *showing,
        f"host{tmp_path}/cmdline",
    }
    for name in ("settings.json", "doctor.json", "records.json"):
        json.loads(contents[name])
    assert "kept=word" in contents["journal.txt"]


@pytest.mark.usefixtures("programs")
def test_environments_of_units_are_not_asked_for(tmp_path: Path) -> None:
    settings = Settings(root_dir=tmp_path / "root", state_dir=tmp_path / "state", backend="docker")
    bundle.write_bundle(tmp_path / "dump.tar.gz", settings, lambda: "{}")
    (asked,) = [line for line in read(tmp_path / "dump.tar.gz")["unit.txt"].splitlines() if line.startswith("asked: ")]
    assert asked.startswith("asked: show -p Id,")
    assert "Environment" not in asked


@pytest.mark.usefixtures("programs")
def test_what_is_not_completed_is_no_bundle(tmp_path: Path) -> None:
    """Nor does it keep the next one from being written."""

    def interrupted() -> str:
        raise KeyboardInterrupt

    settings = Settings(root_dir=tmp_path / "root", state_dir=tmp_path / "state", backend="docker")
    with pytest.raises(KeyboardInterrupt):
        bundle.write_bundle(tmp_path / "dump.tar.gz", settings, interrupted)
    assert bundle.write_bundle(tmp_path / "dump.tar.gz", settings, lambda: "{}")
