"""Runs inside the node: reads commands as JSON lines from a virtio port, and answers each with its outcome."""

import json
import subprocess
import sys

PORT = "/dev/virtio-ports/node.agent"


def outcome(command: dict) -> dict:
    """Run one command and return its exit code and output."""
    try:
        done = subprocess.run(
            command["words"], input=command["stdin"], capture_output=True, text=True, timeout=command["within_s"]
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return {"code": -1, "stdout": "", "stderr": repr(error)}
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Serve until the machine stops."""
    with open(PORT, "r+b", buffering=0) as port:
        port.write(b'{"id": 0}\n')
        pending = b""
        while chunk := port.read(65536):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                command = json.loads(line)
                answer = json.dumps({"id": command["id"], **outcome(command)}).encode() + b"\n"
                while answer:
                    answer = answer[port.write(answer) :]


if __name__ == "__main__":
    sys.exit(main())
