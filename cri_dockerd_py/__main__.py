"""`python -m cri_dockerd_py` and the script `cri-dockerd-py`."""

from __future__ import annotations

import sys

from cri_dockerd_py import cli


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
