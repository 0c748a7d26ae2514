"""File < environment < flags; what is wrong is told with its source; the documents are true."""

from __future__ import annotations

import os
import tempfile
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from cri_dockerd_py.settings import Settings, SettingsError
from cri_dockerd_py.settings.document import changed_document, default_document, effective_document
from cri_dockerd_py.settings.load import load_settings, read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
# cri-dockerd's flags, with a value that its unit files could give
CRI_DOCKERD_FLAGS = {
    "container_runtime_endpoint": "fd://",
    "docker_endpoint": "unix:///var/run/docker.sock",
    "cri_dockerd_root_directory": "/var/lib/cri-dockerd",
    "pod_infra_container_image": "registry.k8s.io/pause:3.10",
    "image_pull_progress_deadline": "1m0s",
    "runtime_request_timeout": "0",
    "streaming_bind_addr": "",
    "network_plugin": "cni",
    "network_plugin_mtu": "1500",
    "cni_conf_dir": "/etc/cni/net.d",
    "cni_bin_dir": "/opt/cni/bin,/usr/lib/cni",
    "cni_cache_dir": "/var/lib/cni/cache",
    "hairpin_mode": "promiscuous-bridge",
    "pod_cidr": "10.1.0.0/16",
    "ipv6_dual_stack": "true",
    "runtime_cgroups": "/system.slice/docker.service",
    "log_level": "panic",
}


@pytest.fixture(autouse=True)
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.touch()
    monkeypatch.setenv("CRI_DOCKERD_PY_CONFIG", str(path))
    return path


def test_defaults_are_valid() -> None:
    assert load_settings({}).settings == Settings()


def test_flags_win_over_environment_over_file(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text('root-dir = "/file"\nstate_dir = "/file-state"\nlog_level = "error"\n')
    monkeypatch.setenv("CRI_DOCKERD_PY_STATE_DIR", "/environment-state")
    monkeypatch.setenv("CRI_DOCKERD_PY_LOG_LEVEL", "warn")
    loaded = load_settings({"log_level": "trace"})
    assert loaded.settings.root_dir == Path("/file")
    assert loaded.settings.state_dir == Path("/environment-state")
    assert loaded.settings.log_level == "debug"
    assert loaded.origins == {
        "root_dir": str(config_file),
        "state_dir": "environment variable CRI_DOCKERD_PY_STATE_DIR",
        "log_level": "flag --log-level",
    }


def test_lists_come_from_every_source(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text('cni_bin_dir = ["/a", "/b"]\n')
    assert load_settings({}).settings.cni_bin_dir == (Path("/a"), Path("/b"))
    monkeypatch.setenv("CRI_DOCKERD_PY_CNI_BIN_DIR", "/c,/d")
    assert load_settings({}).settings.cni_bin_dir == (Path("/c"), Path("/d"))
    assert load_settings({"cni_bin_dir": "/e"}).settings.cni_bin_dir == (Path("/e"),)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_settings({}).settings.root_dir = Path("/other")  # type: ignore[misc]


def test_all_flags_of_cri_dockerd_are_taken_and_those_without_meaning_warn() -> None:
    loaded = load_settings(CRI_DOCKERD_FLAGS)
    assert loaded.settings.image_pull_progress_deadline == 60.0
    assert loaded.settings.engine_call_timeout_seconds == 119.0
    warned = {warning.split()[1] for warning in loaded.warnings}
    assert warned == {
        "--network-plugin",
        "--network-plugin-mtu",
        "--hairpin-mode",
        "--ipv6-dual-stack",
        "--runtime-cgroups",
    }


def test_each_wrong_value_is_told_with_its_source(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text('root_dir = "relative"\nrot_dir = "/x"\n')
    monkeypatch.setenv("CRI_DOCKERD_PY_CNI_TIMEOUT", "soon")
    with pytest.raises(SettingsError) as caught:
        load_settings({"backend": "podman"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert any("backend = 'podman' (flag --backend)" in line for line in lines)
    assert any(f"root_dir = 'relative' ({config_file}): expected an absolute path" in line for line in lines)
    assert any(f"rot_dir ({config_file})" in line and "did you mean root_dir?" in line for line in lines)
    assert any("CRI_DOCKERD_PY_CNI_TIMEOUT" in line and "expected a duration" in line for line in lines)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(SettingsError, match="set together"):
        load_settings({"streaming_tls_cert_file": "/tls.crt"})
    with pytest.raises(SettingsError, match="must differ"):
        load_settings({"root_dir": "/run/cri-dockerd-py"})


@pytest.mark.parametrize(("content", "message"), [(b"a = ", "not valid TOML"), (b"\xff\xfe", "cannot be read")])
def test_broken_files_are_told(config_file: Path, content: bytes, message: str) -> None:
    config_file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_settings({})


def test_a_directory_or_a_pipe_is_not_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError, match=f"{path} is a directory or a pipe"):
            load_settings({}, path)
    assert load_settings({}, Path("/dev/null")).settings == Settings()


def test_a_directory_that_is_closed_to_us_is_told() -> None:
    euid = os.geteuid()
    with tempfile.TemporaryDirectory() as closed:
        os.seteuid(65534)
        try:
            with pytest.raises(SettingsError, match=f"{closed}/config.toml cannot be read"):
                load_settings({}, Path(closed, "config.toml"))
        finally:
            os.seteuid(euid)


def test_a_missing_file_is_an_error_only_when_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings({}, tmp_path / "none.toml")
    monkeypatch.delenv("CRI_DOCKERD_PY_CONFIG")
    assert load_settings({}).settings == Settings()


def test_unknown_variables_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRI_DOCKERD_PY_ROT_DIR", "/x")
    assert load_settings({}).warnings == (
        "environment variable CRI_DOCKERD_PY_ROT_DIR is not a setting and is ignored",
    )


def test_the_effective_document_reads_back_as_the_same_settings(config_file: Path) -> None:
    flags = {"root_dir": '/with "quotes" and \\ and ü', "cni_timeout": "1500ms", "pod_cidr": "10.0.0.0/8,fd00::/64"}
    loaded = load_settings(flags)
    config_file.write_text(effective_document(loaded))
    assert load_settings({}).settings == loaded.settings


def test_what_is_changed_reads_back_as_the_same_settings(config_file: Path) -> None:
    config_file.write_text('[containerd_runtimes.crun]\noptions = { BinaryName = "crun" }\n')
    settings = load_settings({"root_dir": "/x", "hairpin_mode": "none", "cni_timeout": "1500ms"}).settings
    document = changed_document(settings)
    assert read_settings(document, "here") == settings
    assert read_settings("", "here") == Settings() != settings
    assert "state_dir" not in document
    for wrong in ("root_dir = 1", "nonsense", 'no_such = "x"'):
        with pytest.raises(SettingsError, match="here"):
            read_settings(wrong, "here")


def test_the_default_document_is_true_when_uncommented(config_file: Path) -> None:
    uncommented = [line[2:] for line in default_document().splitlines() if line.startswith("# ") and " = " in line]
    assert len(tomllib.loads("\n".join(uncommented))) > 20
    config_file.write_text("\n".join(uncommented))
    assert load_settings({}).settings == Settings()


def test_the_packaged_config_file_is_current() -> None:
    packaged = (REPOSITORY / "packaging" / "config.toml").read_text()
    assert packaged == default_document(), "run: make reference"
