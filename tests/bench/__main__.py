"""Compare this service with containerd's own CRI plugin: the same machine, minute, client, network and image.

python -m tests.bench [--engine containerd-2.1|docker-28|…] [--only WORD]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import platform
import statistics
from collections.abc import Callable, Iterator

from cri_dockerd_py.pause.image import pause_image
from tests import images
from tests.backends.containerd.layered import Pusher, layered, random_tars
from tests.behaviour.client import Cri
from tests.behaviour.registries import push
from tests.bench import measures, streams
from tests.bench.side import Side
from tests.cni import CniNetwork
from tests.conftest import start_engine
from tests.cri_server import CriServer
from tests.engines import ContainerdNode, DockerEngine, RegistryServer
from tests.engines.cri_plugin import plugin_config
from tests.processes import erase, erase_abandoned, private_directory

YARDSTICK = "containerd-2.1"
LAYERS, LAYER_BYTES = 10, 20_000_000
TURNS = 3


@contextlib.contextmanager
def service(engine_name: str, network: CniNetwork) -> Iterator[Side]:
    """This service on an engine."""
    with contextlib.ExitStack() as stack:
        engine = start_engine(engine_name)
        stack.callback(engine.close)
        server = CriServer(engine, network, ["--log-level=info"])
        stack.callback(server.close)
        server.start()
        cri = stack.enter_context(contextlib.closing(Cri(server.socket, server.log_dir)))
        pids = [server.daemon.pid, engine.daemon.pid]
        if isinstance(engine, DockerEngine):
            pids.append(engine.containerd.daemon.pid)
        yield Side(engine_name, _with_images(cri), pids)


@contextlib.contextmanager
def plugin(network: CniNetwork, registry: RegistryServer) -> Iterator[Side]:
    """containerd's CRI plugin."""
    with contextlib.ExitStack() as stack:
        node = ContainerdNode(YARDSTICK)
        stack.callback(node.close)
        pause = push(registry.address, "pause", "1", pause_image(platform.machine()))
        node.start()
        images.load_all(node)
        node.stop()
        node.containerd.configure(plugin_config(pause, network))
        node.start()
        logs = private_directory("l")
        stack.callback(erase, logs)
        cri = stack.enter_context(contextlib.closing(Cri(node.socket, logs)))
        yield Side("CRI plugin", _with_images(cri), [node.daemon.pid])


def _with_images(cri: Cri) -> Cri:
    cri.images["busybox"] = images.BUSYBOX
    return cri


def pulls(registry: RegistryServer) -> Callable[[Side], measures.Figures]:
    """Return the measure of pulling an image of many layers, a new one each time."""
    numbers = itertools.count()

    def measure(side: Side) -> measures.Figures:
        image = layered(random_tars(LAYERS, LAYER_BYTES), ("",))
        repository = f"bench/{side.name.lower().replace(' ', '-')}"
        reference = Pusher(registry.address, repository, "").image(image, str(next(numbers)))
        taken = measures.timed(lambda: side.cri("PullImage", image={"image": reference}), 1)
        return {"pull of 10 × 20 MB, ms": measures.median_ms(taken)}

    return measure


def main() -> None:
    """Print a table of the figures on both sides, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default=YARDSTICK, help="the engine that this service runs on")
    parser.add_argument("--only", default="", help="measure only what has this word in its name")
    arguments = parser.parse_args()
    erase_abandoned()
    with contextlib.ExitStack() as stack:
        network, registry = CniNetwork(), RegistryServer()
        stack.callback(network.close)
        stack.callback(registry.close)
        registry.start()
        ours = stack.enter_context(service(arguments.engine, network))
        theirs = stack.enter_context(plugin(network, registry))
        print(f"{'':<28}{ours.name:>16}{theirs.name:>16}{'ratio':>9}")
        measured = {
            "pods": measures.one_pod_after_another,
            "parallel": measures.pods_in_parallel,
            "reads": measures.reads_of_many,
            "log": measures.log_throughput,
            "sessions": streams.session_throughput,
            "pull": pulls(registry),
        }
        for name, measure in measured.items():
            if arguments.only in name:
                mine, yardstick = in_turns(measure, ours, theirs)
                for figure, value in mine.items():
                    ratio = value / yardstick[figure] if yardstick[figure] else float("nan")
                    print(f"{figure:<28}{value:>16.2f}{yardstick[figure]:>16.2f}{ratio:>9.2f}", flush=True)


def in_turns(measure: Callable[[Side], measures.Figures], *sides: Side) -> list[measures.Figures]:
    """Measure each side several times, one after another, so that a busy minute meets all; return the medians."""
    taken: list[list[measures.Figures]] = [[] for _ in sides]
    for _ in range(TURNS):
        for side, figures in zip(sides, taken, strict=True):
            figures.append(measure(side))
    return [{name: statistics.median(each[name] for each in figures) for name in figures[0]} for figures in taken]


if __name__ == "__main__":
    main()
