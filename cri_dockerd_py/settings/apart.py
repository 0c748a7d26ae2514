"""Load the settings in a process of their own: what validates them takes memory that a service would keep."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cri_dockerd_py.errors import Internal
from cri_dockerd_py.settings.loaded import LoadedSettings, SettingsError


class SettingsApart:
    """Settings that are being loaded; the caller does other things until it needs the result."""

    def __init__(self, flags: Mapping[str, Any], config_file: Path | None = None) -> None:
        """Begin; must be called before any thread is started, as this forks."""
        reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(reader)
            _run(writer, flags, config_file)
        os.close(writer)
        self._reader = reader

    def result(self) -> LoadedSettings:
        """Wait for the settings, or raise SettingsError."""
        with open(self._reader, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            raise Internal(f"the process that loads the settings ended with {os.waitstatus_to_exitcode(status)}")
        # The answer comes from this very program.
        loaded = pickle.loads(answer)
        if isinstance(loaded, LoadedSettings):
            return loaded
        raise loaded


def _run(writer: int, flags: Mapping[str, Any], config_file: Path | None) -> NoReturn:
    """Write the result and end, without what the parent would do on its way out."""
    # Who is interrupted, or has lost its parent, ends without a word.
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    code = 1
    try:
        answer = _load(flags, config_file)
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _load(flags: Mapping[str, Any], config_file: Path | None) -> LoadedSettings | SettingsError:
    from cri_dockerd_py.settings.load import load_settings

    try:
        return load_settings(flags, config_file)
    except SettingsError as error:
        return error
