"""What verbs that talk to a running service have in common: where it is, and in which form they print."""

from __future__ import annotations

import argparse

from cri_dockerd_py.cli.setting_flags import add_setting_flags

#: The settings that tell where the admin socket is.
_SETTINGS = ("admin_endpoint", "state_dir")


def add_admin_flags(parser: argparse.ArgumentParser) -> None:
    """Give a verb the flags."""
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
    add_setting_flags(parser, _SETTINGS)
