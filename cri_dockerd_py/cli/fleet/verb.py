"""`migrate agent`, carried out."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from cri_dockerd_py.cli import admin_client
from cri_dockerd_py.cli.admin_client import Admin
from cri_dockerd_py.cli.fleet.agent import Agent
from cri_dockerd_py.cli.fleet.api_server import api_server, place


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    here = place()

    async def serve(admin: Admin) -> None:
        async with api_server(here) as api:
            agent = Agent(admin, api, arguments.to, arguments.max_unavailable, here.pod, arguments.ready_file)
            job = asyncio.ensure_future(agent.run())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, job.cancel)
            await asyncio.wait((job,))
            if not job.cancelled():
                job.result()

    admin_client.run(arguments, serve)
    return 0
