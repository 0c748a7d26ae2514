"""A record of the service's log as one line, in logfmt or JSON, with the RPC's request id and without secrets."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping

from cri_dockerd_py.cri.methods import REQUEST_ID

_PLAIN = re.compile(r"[\w./:@+,*()\[\]-]+", re.ASCII)
_HIDDEN = "<redacted>"
_NAME_OF_SECRET = (
    r"(?:pass(?:word|wd|phrase)|_pass|_pwd|token|secret|credential|(?:api|access|private)[_-]?key)[\w.-]{0,64}"
)
_QUOTE = r"(\\{0,8}[\"'])"
#: The rest of what is quoted by the `_QUOTE` that is the second group.
_QUOTED = r"(?:(?!\2)(?:\\.|[^\\\n]))*"
#: What comes from outside, such as errors of registries and engines, may show these; each keeps its first group.
_SECRETS = (
    re.compile(r"(\b(?:bearer|basic)\s+)(?!realm=)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(proxy=)[^\s\"']{1,512}(?=@)", re.IGNORECASE),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/\"']+(?=@)", re.IGNORECASE),
    re.compile(r"([?&][\w-]*(?:token|secret|signature|credential|password|sig)=)[^&\s\"'<>]+", re.IGNORECASE),
    re.compile(r"(/(?:exec|attach|portforward)/)[\w-]{8,}"),
)
#: Texts without any of these words are not looked through for what they name.
_WORDS = ("pass", "pwd", "token", "secret", "credential", "key", "auth")
_NAMED_SECRETS = (
    # "NAME=its value", NAME="its value", NAME=value, --name value, "name": "its value"
    re.compile(rf"({_QUOTE}[\w.-]{{0,64}}{_NAME_OF_SECRET}=)(?!\\*[\"']){_QUOTED}", re.IGNORECASE),
    re.compile(rf"({_NAME_OF_SECRET}\s?=\s?{_QUOTE}){_QUOTED}", re.IGNORECASE),
    re.compile(rf"({_NAME_OF_SECRET}=)(?!{_HIDDEN})(?:\\[^\s\"']|[^\s\"'\\])+", re.IGNORECASE),
    re.compile(rf"(\s--[\w-]{{0,64}}{_NAME_OF_SECRET}\s+)(?!-)[^\s\"'\\]+", re.IGNORECASE),
    re.compile(rf"((?:{_NAME_OF_SECRET}|[\"']auth)\\{{0,8}}[\"']\s*:\s*{_QUOTE}){_QUOTED}", re.IGNORECASE),
    re.compile(
        r"""(\b(?:password|passwd|identity_?token|registry_?token|access_?token|refresh_?token|secret)\\*["']?\s*[:=]\s*\\*["']?)"""
        r"""[^\s"'\\,&<>}]+""",
        re.IGNORECASE,
    ),
)
#: syslog's numbers, by which journald tells errors from chatter.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class LineFormatter(logging.Formatter):
    """Renders records with `render`; under the journal each line begins with its priority.

    A record's `fields` (by `extra=`) follow its message; a traceback is a field, so that a record stays one line.
    """

    def __init__(self, render: Callable[[Mapping[str, object]], str], *, for_journal: bool) -> None:
        super().__init__()
        self._render = render
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = self._render(self._fields(record))
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._for_journal else line

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("cri_dockerd_py."),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return {name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}


def logfmt(fields: Mapping[str, object]) -> str:
    """Return `name=value` pairs; a value that is no plain word is quoted as in JSON."""
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items())


def json_line(fields: Mapping[str, object]) -> str:
    """Return one JSON object."""
    return json.dumps(fields)


RENDERERS: Mapping[str, Callable[[Mapping[str, object]], str]] = {"logfmt": logfmt, "json": json_line}


def without_secrets(text: str) -> str:
    """Return text with passwords, tokens and signatures replaced, by the forms and the names that they usually have."""
    lowered = text.lower()
    named = _NAMED_SECRETS if any(word in lowered for word in _WORDS) else ()
    for pattern in (*_SECRETS, *named):
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return text


def _word(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    # Only printable text stays as it is, so that nobody can forge a line or an end of one.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in quoted)
