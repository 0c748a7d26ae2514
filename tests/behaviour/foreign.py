"""Pods as dockershim and cri-dockerd make them, made by hand through the engine's API and with CNI plugins."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.engines import DockerEngine
from tests.images import BUSYBOX

# The Go packages whose names are part of a checkpoint's checksum: that of the data and that of a port mapping.
PACKAGES = {"cri-dockerd": ("core", "config"), "dockershim": ("dockershim", "dockershim")}
TYPE, SANDBOX_ID, LOG_PATH = (
    "io.kubernetes.docker.type",
    "io.kubernetes.sandbox.id",
    "io.kubernetes.container.logpath",
)


def checksum(writer: str, mappings: list[dict[str, Any]], host_network: bool) -> int:
    """Return the checksum of a checkpoint's data: FNV-1a over how Go prints it."""
    data, port = PACKAGES[writer]
    entries = " ".join(
        f"<*>{{Protocol:(*{port}.Protocol){mapping['protocol']} ContainerPort:(*int32){mapping['container_port']} "
        f"HostPort:(*int32){mapping['host_port']} HostIP:(string){mapping.get('host_ip', '')}}}"
        for mapping in mappings
    )
    text = (
        f"({data}.CheckpointData){{PortMappings:([]*{port}.PortMapping){f'[{entries}]' if mappings else '<nil>'} "
        f"HostNetwork:(bool){str(host_network).lower()}}}"
    )
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


@dataclass(slots=True)
class ForeignPod:
    """A pod that another CRI server for this engine has made."""

    engine: DockerEngine
    network: CniNetwork
    log_root: Path
    checkpoints: Path
    writer: str = "cri-dockerd"
    host_port: int = 0
    attempt: int = 2
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    id: str = ""
    ip: str = ""
    container_id: str = ""
    labels: dict[str, str] = field(default_factory=lambda: {"app": "web"})
    annotations: dict[str, str] = field(default_factory=lambda: {"kubernetes.io/config.seen": "2026-01-01T00:00:00Z"})

    @property
    def log_path(self) -> Path:
        """Where the log of the container is wanted."""
        return self.log_root / f"prod_web-0_{self.uid}" / "app" / "0.log"

    @property
    def checkpoint(self) -> Path:
        """The pod's checkpoint file."""
        return self.checkpoints / "sandbox" / self.id

    def make(self) -> None:
        """Make the sandbox with its network, and one running container."""
        self.log_root.mkdir(parents=True, exist_ok=True)
        self._make_sandbox()
        self._write_checkpoint()
        self.engine.client.api.start(self.id)
        self._attach()
        self._make_container()

    def mappings(self) -> list[dict[str, Any]]:
        """Return the port mappings as a checkpoint has them."""
        return [{"protocol": "tcp", "container_port": 80, "host_port": self.host_port}] if self.host_port else []

    def _all_labels(self) -> dict[str, str]:
        annotations = {f"annotation.{key}": value for key, value in self.annotations.items()}
        pod = {
            "io.kubernetes.pod.name": "web-0",
            "io.kubernetes.pod.namespace": "prod",
            "io.kubernetes.pod.uid": self.uid,
        }
        return {**self.labels, **pod, **annotations}

    def _make_sandbox(self) -> None:
        ports = {"80/tcp": [{"HostIp": "", "HostPort": str(self.host_port)}]} if self.host_port else {}
        body = {
            "Hostname": "web-0",
            "Image": BUSYBOX,
            "Cmd": ["sleep", "2147483647"],
            "ExposedPorts": {key: {} for key in ports},
            "Labels": {**self._all_labels(), TYPE: "podsandbox", "io.kubernetes.container.name": "POD"},
            "HostConfig": {
                "IpcMode": "shareable",
                "NetworkMode": "none",
                "PortBindings": ports,
                "CpuShares": 2,
                "SecurityOpt": ["no-new-privileges"],
                "ShmSize": 67108864,
            },
        }
        self.id = self._create(f"k8s_POD_web-0_prod_{self.uid}_{self.attempt}", body)

    def _make_container(self) -> None:
        joined = f"container:{self.id}"
        host = {
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "NetworkMode": joined,
            "IpcMode": joined,
            "Memory": 67108864,
            "MemorySwap": 67108864,
            "CpuShares": 102,
            "OomScoreAdj": 993,
            "SecurityOpt": ["seccomp=unconfined"],
            "ShmSize": 67108864,
            "LogConfig": {"Type": "json-file", "Config": {}},
        }
        if self.writer == "dockershim":
            host["Binds"] = [f"{self.log_root}:/mnt:ro"]
        else:
            host["Mounts"] = [{"Type": "bind", "Source": str(self.log_root), "Target": "/mnt", "ReadOnly": True}]
        body = {
            "Image": BUSYBOX,
            "Entrypoint": ["sh", "-c"],
            "Cmd": ["mkdir -p /www && echo served >/www/index.html && echo begun && exec httpd -f -p 80 -h /www"],
            "Env": ["A=1"],
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {
                **self._all_labels(),
                "io.kubernetes.container.name": "app",
                "annotation.io.kubernetes.container.hash": "1a2b",
                "annotation.io.kubernetes.container.restartCount": "1",
                TYPE: "container",
                SANDBOX_ID: self.id,
                LOG_PATH: str(self.log_path),
            },
            "HostConfig": host,
        }
        self.container_id = self._create(f"k8s_app_web-0_prod_{self.uid}_1", body)
        self.engine.client.api.start(self.container_id)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.symlink_to(self.engine.client.api.inspect_container(self.container_id)["LogPath"])

    def _create(self, name: str, body: dict[str, Any]) -> str:
        return str(self.engine.client.api.create_container_from_config(body, name)["Id"])

    def _write_checkpoint(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        data = {"port_mappings": self.mappings()} if self.host_port else {}
        document = {
            "version": "v1",
            "name": "web-0",
            "namespace": "prod",
            "data": data,
            "checksum": checksum(self.writer, self.mappings(), False),
        }
        self.checkpoint.write_text(json.dumps(document, separators=(",", ":")))

    def _attach(self) -> None:
        """Run the plugins and leave their result in the cache, as a CNI library does."""
        conflist = self.network.conflist()
        netns = f"/proc/{self.engine.client.api.inspect_container(self.id)['State']['Pid']}/ns/net"
        arguments = [
            ["IgnoreUnknown", "1"],
            ["K8S_POD_NAMESPACE", "prod"],
            ["K8S_POD_NAME", "web-0"],
            ["K8S_POD_INFRA_CONTAINER_ID", self.id],
        ]
        ports = [
            {"hostPort": mapping["host_port"], "containerPort": mapping["container_port"], "protocol": "tcp"}
            for mapping in self.mappings()
        ]
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": self.id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": ":".join(PLUGIN_DIRECTORIES),
            "CNI_ARGS": ";".join("=".join(pair) for pair in arguments),
        }
        result: dict[str, Any] | None = None
        for plugin in conflist["plugins"]:  # type: ignore[attr-defined]
            conf = {**plugin, "cniVersion": conflist["cniVersion"], "name": conflist["name"]}
            if conf.pop("capabilities", {}).get("portMappings"):
                if not ports:
                    continue
                conf["runtimeConfig"] = {"portMappings": ports}
            if result is not None:
                conf["prevResult"] = result
            program = shutil.which(conf["type"], path=environment["CNI_PATH"])
            done = subprocess.run(
                [str(program)],
                input=json.dumps(conf),
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            )
            result = json.loads(done.stdout)
        assert result is not None
        self.ip = result["ips"][0]["address"].split("/")[0]
        cached = {
            "kind": "cniCacheV1",
            "containerId": self.id,
            "config": base64.b64encode(json.dumps(conflist).encode()).decode(),
            "ifName": "eth0",
            "networkName": conflist["name"],
            "cniArgs": arguments,
            "capabilityArgs": {"portMappings": ports},
            "result": result,
        }
        results = self.network.cache_dir / "results"
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{conflist['name']}-{self.id}-eth0").write_text(json.dumps(cached))
