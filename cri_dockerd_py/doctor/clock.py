"""Whether the kernel's clock is kept right (adjtimex(2))."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from cri_dockerd_py.doctor.finding import Finding, Patient, ok, warning

AREA = "clock"
_TIME_ERROR = 5
#: struct timex is 208 bytes; its first field `modes` is 0 when nothing is to be set.
_TIMEX_BYTES = 256


def check_clock(_patient: Patient) -> Iterable[Finding]:
    """Ask the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        yield warning(
            AREA,
            "the clock is not synchronised",
            "certificates and tokens of the cluster are refused when it is wrong, and logs of nodes do not line up",
            "apt-get install chrony, or systemctl enable --now systemd-timesyncd",
        )
    elif state >= 0:
        yield ok(AREA, "the clock is synchronised")
