"""`python -m cri_dockerd_py` and the script `cri-dockerd-py`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # Before gRPC is loaded: after a fork of this process its channels may hang, and no child of ours uses them.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from cri_dockerd_py import cli

    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
