"""Dockershim's way: Docker writes its own json-file, and the log path is a symbolic link to it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.logs.log_file import make_directory, translate


def link_json_log(log_path: str, docker_path: str) -> bool:
    """Point `log_path` at Docker's file, replacing what file is there; False when one of the two is not known."""
    if not log_path or not docker_path or os.path.isdir(log_path):
        return False
    link = Path(log_path)
    make_directory(link)
    scratch = link.with_name(f".{link.name}.link")
    try:
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(docker_path)
        scratch.replace(link)
    except OSError as error:
        raise translate(error, f"link log file {link} to Docker's") from error
    return True


def unlink_json_log(log_path: str) -> None:
    """Remove the link; a real file at the path is not ours and stays."""
    if log_path and os.path.islink(log_path):
        with suppress(FileNotFoundError):
            os.unlink(log_path)
