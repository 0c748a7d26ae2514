"""`status` and `log-level`: a running service as it is."""

from __future__ import annotations

import argparse
from typing import Any


def add_verbs(verbs: Any, chosen: str) -> None:
    """Add the verbs; the chosen one gets its flags."""
    status = verbs.add_parser("status", help="show engines, the pods on each, and a migration, of a running service")
    status.set_defaults(run=_status)
    level = verbs.add_parser("log-level", help="show or set the log level of a running service")
    level.add_argument("level", nargs="?", default="", help="error, warning, info or debug; none shows the present one")
    level.set_defaults(run=_log_level)
    parser = {"status": status, "log-level": level}.get(chosen)
    if parser is not None:
        from cri_dockerd_py.cli.admin_flags import add_admin_flags

        add_admin_flags(parser)


def _status(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.cli.admin_verbs import show_status

    return show_status(arguments)


def _log_level(arguments: argparse.Namespace) -> int:
    from cri_dockerd_py.cli.admin_verbs import log_level

    return log_level(arguments)
