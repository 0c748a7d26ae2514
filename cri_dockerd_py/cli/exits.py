"""Exit codes."""

from __future__ import annotations

FAILURE = 1
USAGE = 2
#: The command did its part, and what was asked for has not come about (yet): read its output.
INCOMPLETE = 3
INTERRUPTED = 128 + 2
