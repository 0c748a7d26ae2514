"""Lines of the service's own log."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.cri.methods import REQUEST_ID
from cri_dockerd_py.daemon.log_lines import RENDERERS, LineFormatter, logfmt, without_secrets

_PROGRAM = """
import logging
from cri_dockerd_py.daemon.log_setup import set_up_logs
set_up_logs("info", "logfmt")
for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
    logging.getLogger("cri_dockerd_py.core.feed").log(level, "said")
"""


def record(message: str, *, fields: dict[str, object] | None = None, error: BaseException | None = None) -> str:
    """Return the line of a warning, in logfmt."""
    return line("logfmt", message, fields or {}, error)


def line(log_format: str, message: str, fields: dict[str, object], error: BaseException | None) -> str:
    made = logging.getLogger("cri_dockerd_py.core.feed").makeRecord(
        "cri_dockerd_py.core.feed",
        logging.WARNING,
        __file__,
        1,
        message,
        (),
        (type(error), error, None) if error else None,
        extra={"fields": fields},
    )
    return LineFormatter(RENDERERS[log_format], for_journal=False).format(made)


def fields_of(text: str) -> dict[str, str]:
    """Read logfmt as a reader of its own would."""
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("log_format", RENDERERS)
def test_a_line_has_its_fields_and_the_calls_id(log_format: str) -> None:
    token = REQUEST_ID.set("1f-7")
    try:
        text = line(log_format, "RPC failed", {"method": "Version", "duration_ms": 1.5}, ValueError("no\nway"))
    finally:
        REQUEST_ID.reset(token)

    read = {name: str(value) for name, value in (json.loads if log_format == "json" else fields_of)(text).items()}
    assert "\n" not in text
    assert read.pop("time").endswith("Z")
    assert read.pop("exception").replace("\\n", "\n") == "ValueError: no\nway"
    assert read == {
        "level": "warning",
        "logger": "core.feed",
        "msg": "RPC failed",
        "method": "Version",
        "duration_ms": "1.5",
        "request_id": "1f-7",
    }


def test_outside_a_call_there_is_no_id() -> None:
    assert "request_id" not in record("text")


@given(st.text())
def test_nothing_forges_a_line_or_a_field(text: str) -> None:
    made = logfmt({"msg": text, "end": "here"})

    assert len(made.splitlines()) == 1
    assert made.isprintable()
    assert fields_of(made).keys() == {"msg", "end"}


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRET.SECRET-_/+=",
        "authorization: basic U0VDUkVUOlNFQ1JFVA==",
        "GET https://user:SECRET@registry.example/v2/: refused",
        "GET https://SECRETSECRET@registry.example/v2/: refused",
        "https://cdn.example/blob?X-Amz-Signature=SECRET&X-Amz-Date=1",
        "https://blob.example/c?se=1&sig=SECRET",
        "https://auth.example/token?refresh_token=SECRET&service=x",
        '{"username":"u","password":"SECRET"}',
        '{\\"identitytoken\\": \\"SECRET\\"}',
        "password=SECRET, user=u",
        "HTTPS_PROXY=http://user:SECRET@proxy.example:3128",
        "https_proxy=user:SECRET/SECRET@SECRET@proxy.example:3128",
        'Environment="DB_PASSWORD=SECRET and SECRET" "OTHER=x"',
        "DB_PASS=SECRET MYSQL_PWD=SECRET AWS_ACCESS_KEY_ID=SECRET",
        "VAULT_TOKEN=SECRET,SECRET&SECRET;SECRET other=x",
        'DB_PASSWORD_1="SECRET \\" SECRET" other=x',
        '{"env": ["A=b", "MY_TOKEN_KEY=SECRET \\"SECRET"], "DB_PASSWORD": "SECRET SECRET"}',
        '{\\"registry_token\\": \\"SECRET SECRET\\"}',
        '{"auths": {"registry.example": {"auth": "SECRET"}}}',
        "quiet k3s.token=SECRET::server:SECRET ro",
        "kubeadm join --token SECRET.SECRET --v 1",
        "http://127.0.0.1:1/exec/SECRETSECRET: gone",
    ],
)
def test_secrets_are_not_shown(text: str) -> None:
    for shown in (record(text), record("x", fields={"cause": text}), record("x", error=ValueError(text))):
        assert "<redacted>" in shown
        assert "SECRET" not in shown
        assert "U0VDUkVU" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "image registry.example:5000/a/b@sha256:0123 is not there",
        'WWW-Authenticate: Bearer realm="https://auth.example/token",service="x"',
        "pod kube-system/token-reader: the secret was not found",
        "basic checks passed",
        "password must not hold control characters",
        "/usr/bin/exec failed",
        "the token expired: docker://registry.example/a@sha256:0123",
        '{"tokens": 5, "monkey": "x", "author": "y"} --token-file --v',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_what_is_around_a_secret_stays() -> None:
    before = '{"env": ["A=b", "MY_TOKEN=SECRET\\n", "C=d"], "DB_PASSWORD": "SECRET", "n": 1}'
    assert json.loads(without_secrets(before)) == {
        "env": ["A=b", "MY_TOKEN=<redacted>", "C=d"],
        "DB_PASSWORD": "<redacted>",
        "n": 1,
    }
    assert (
        without_secrets("x?a_token=SECRET&b=c X_TOKEN=SECRET y=z") == "x?a_token=<redacted>&b=c X_TOKEN=<redacted> y=z"
    )


@pytest.mark.parametrize("piece", ["token", "\\", "proxy=", '"', "a://", "password=", "--", "' "])
def test_long_texts_are_read_through_once(piece: str) -> None:
    began = time.monotonic()
    without_secrets(piece * 50_000)
    assert time.monotonic() - began < 10


def test_the_journal_is_told_priorities(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w+") as stream:
        status = os.fstat(stream.fileno())
        for inode in (status.st_ino, status.st_ino + 1):
            environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{inode}"}
            subprocess.run([sys.executable, "-c", _PROGRAM], stderr=stream, env=environment, check=True)
        stream.seek(0)
        starts = [text.partition("time=")[0] for text in stream.readlines()]

    assert starts == ["<6>", "<4>", "<3>", "", "", ""]
