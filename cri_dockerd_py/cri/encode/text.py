"""Text and JSON that came from outside, made fit for a message."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as pb


def clean(text: str) -> str:
    """Return text that UTF-8 can hold: what was no UTF-8 becomes backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def verbose_info(values: Mapping[str, object]) -> bytes:
    """Return the field `info`, the same in every response that has it: each value is JSON (STA-18)."""
    info = {clean(key): json.dumps(value, default=str) for key, value in values.items()}
    return pb.StatusResponse(info=info).SerializeToString()
