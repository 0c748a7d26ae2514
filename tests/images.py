"""Images for tests, made of the machine's static busybox: no registry, the same ids every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cri_dockerd_py.pause.archive import BuiltImage, LayerFile, build_image
from tests.engines import RealEngine

BUSYBOX = "cri-test/busybox:1"
USER_UID = "cri-test/user-uid:1"
USER_NAME = "cri-test/user-name:1"
USER_UID_GROUP = "cri-test/user-uid-group:1"
USER_NAME_GROUP = "cri-test/user-name-group:1"
USER_IN_GROUP = "cri-test/user-in-group:1"
VOLUME = "cri-test/volume:1"
STOP_SIGNAL = "cri-test/stop-signal:1"
ENTRYPOINT = "cri-test/entrypoint:1"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_APPLETS = (
    "awk base64 basename cat chmod chown cp cut date dd df dirname du echo env expr false find free grep groups head "
    "hostname httpd id ifconfig ip kill ln ls mkdir mkfifo mknod mount mv nc netstat nproc nslookup od ping pgrep "
    "pidof printenv printf ps pwd readlink rm rmdir sed seq setsid sh sha256sum sleep sort stat stty sync sysctl tail "
    "tee test timeout touch tr true tty umount uname uniq vi wc wget which whoami xargs yes"
)
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n"
    "default-user:x:1000:1000::/home/default-user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
)
_GROUP = (
    "root:x:0:\nwww-data:x:33:\nusers:x:100:\ndefault-user:x:1000:\n"
    "group-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n"
)
# image name → what differs from the busybox image's config
_CONFIGS: dict[str, dict[str, object]] = {
    BUSYBOX: {},
    USER_UID: {"User": "1002"},
    USER_NAME: {"User": "www-data"},
    USER_UID_GROUP: {"User": "1003:users"},
    USER_NAME_GROUP: {"User": "www-data:users"},
    USER_IN_GROUP: {"User": "1000"},
    VOLUME: {"Volumes": {"/data": {}}},
    STOP_SIGNAL: {"StopSignal": "SIGUSR1"},
    ENTRYPOINT: {
        "Entrypoint": ["/bin/echo", "from-entrypoint"],
        "Cmd": ["from-cmd"],
        "Env": [_PATH, "FROM_IMAGE=yes"],
        "WorkingDir": "/var/www",
        "Labels": {"made-by": "cri-test"},
    },
}


def busybox_files() -> dict[str, LayerFile]:
    """Return the files of the busybox image."""
    files = {f"{name}/": LayerFile() for name in ("bin", "etc", "root", "var", "var/www", "proc", "sys", "dev")}
    files["tmp/"] = LayerFile(mode=0o1777)
    files["data/"] = LayerFile()
    files["data/seed"] = LayerFile(b"from the image\n", 0o644)
    files["etc/passwd"] = LayerFile(_PASSWD.encode(), 0o644)
    files["etc/group"] = LayerFile(_GROUP.encode(), 0o644)
    files["bin/busybox"] = LayerFile(Path("/bin/busybox").read_bytes())
    files |= {f"bin/{applet}": LayerFile(link_target="busybox") for applet in _APPLETS.split()}
    return files


def build(name: str, config: Mapping[str, object] | None = None) -> BuiltImage:
    """Build the test image `name`, or another image of the same files with its own `config`."""
    chosen = _CONFIGS.get(name, {}) if config is None else config
    return build_image(busybox_files(), {"Env": [_PATH], "Cmd": ["/bin/sh"], **chosen})


def load_all(engine: RealEngine) -> dict[str, str]:
    """Load every test image and return {name: id}."""
    return {name: engine.load(build(name), name) for name in _CONFIGS}
