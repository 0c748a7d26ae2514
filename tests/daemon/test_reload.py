"""SIGHUP on the service."""

from __future__ import annotations

import signal

from tests.cri_server import CriServer
from tests.processes import wait_until


def test_a_running_service_takes_over_a_new_log_level(cri_server: CriServer) -> None:
    """Its flags win over its file, so only the log format can change here; the rest waits for the next start."""
    config = cri_server.directory / "config.toml"
    before = config.read_text()
    try:
        config.write_text(f'log_format = "json"\nresync_interval = 77\n{before}')
        cri_server.daemon.signal(signal.SIGHUP)
        wait_until(lambda: '"msg": "settings were read; changed now: log_format"' in log(cri_server), "a reload")
        wait_until(lambda: "take effect at the next start: resync_interval" in log(cri_server), "what waits")
        config.write_text("no_such_setting = 1\n")
        cri_server.daemon.signal(signal.SIGHUP)
        wait_until(lambda: "so nothing has changed" in log(cri_server), "a refusal")
        assert "no_such_setting" in log(cri_server)
    finally:
        config.write_text(before)
        cri_server.daemon.signal(signal.SIGHUP)
    wait_until(lambda: log(cri_server).count("settings were read") == 2, "the way back")


def log(server: CriServer) -> str:
    return server.daemon.log.read_text()
