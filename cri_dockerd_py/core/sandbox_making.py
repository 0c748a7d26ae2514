"""Making a sandbox, step by step with undo, on engines that take a network namespace and on those that make one."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from functools import partial

from cri_dockerd_py.backends.base import CreatedSandbox, SandboxRuntime, StartedProcess
from cri_dockerd_py.core.engines import Side
from cri_dockerd_py.core.pod_attachments import PodAttachments
from cri_dockerd_py.core.together import both
from cri_dockerd_py.core.undo import Undo
from cri_dockerd_py.errors import NotFound, Unavailable
from cri_dockerd_py.model.sandbox import SandboxRecord, SandboxSpec, SandboxState
from cri_dockerd_py.store.records import Attachment, Records, StoredSandbox

_LOG = logging.getLogger(__name__)
_ID_BYTES = 32
#: Some are defaults of interfaces: one kind of engine sets them before there is any, the other kind afterwards.
_NETWORK_SYSCTLS = ("net.", "net/")


@dataclass(frozen=True, slots=True)
class Plan:
    """A sandbox that is on record and does not exist yet; `sandbox_id` is empty where the engine chooses it."""

    side: Side
    spec: SandboxSpec
    intent_id: int
    sandbox_id: str = ""
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    created: CreatedSandbox
    pid: int
    ips: tuple[str, ...] = ()
    netns_path: str = ""


class SandboxMaking:
    """`begin` puts a sandbox on record, `make` makes it; what `make` has pushed on `undo` takes everything back."""

    def __init__(self, attachments: PodAttachments, records: Records) -> None:
        self._attachments = attachments
        self._records = records

    async def begin(self, side: Side, spec: SandboxSpec) -> Plan:
        """Record the intent, with all that is known beforehand."""
        if not side.engine.sandboxes.takes_netns:
            return Plan(side, spec, await self._records.begin_run_sandbox(spec, side.name))
        sandbox_id = secrets.token_hex(_ID_BYTES)
        attachment = None if spec.host_network else self._attachments.plan(sandbox_id, spec, side.name)
        intent_id = await self._records.begin_run_sandbox(spec, side.name, sandbox_id, attachment)
        return Plan(side, spec, intent_id, sandbox_id, attachment)

    async def forget(self, plan: Plan) -> None:
        """Take a plan off the record of which nothing was made."""
        if plan.attachment is not None:
            await self._records.detach(plan.sandbox_id)
        await self._records.clear_intent(plan.intent_id)

    async def make(self, plan: Plan, undo: Undo) -> SandboxRecord:
        """Take all steps, the record last."""
        undo.push("create sandbox", partial(plan.side.engine.sandboxes.discard_unborn, plan.spec))
        made = await (self._make_around_netns(plan, undo) if plan.sandbox_id else self._make_then_attach(plan, undo))
        record = SandboxRecord(
            id=made.created.id,
            spec=plan.spec,
            state=SandboxState.READY,
            created_at_ns=made.created.created_at_ns,
            engine=plan.side.name,
            pid=made.pid,
            ips=made.ips,
            netns_path=made.netns_path,
        )
        undo.push("forget record", partial(self._records.forget_sandbox, record.id))
        stored = StoredSandbox(record.id, record.engine, record.created_at_ns, record.spec)
        await self._records.finish_sandbox(plan.intent_id, stored)
        return record

    async def _make_around_netns(self, plan: Plan, undo: Undo) -> _Made:
        """The network is set up beside the making of the sandbox, which starts in its namespace once that is there."""
        sandboxes, attachment, spec = plan.side.engine.sandboxes, plan.attachment, plan.spec
        undo.push("remove sandbox", partial(sandboxes.remove, plan.sandbox_id))
        if attachment is None:
            created = await sandboxes.create(spec, sandbox_id=plan.sandbox_id)
            return _Made(created, (await sandboxes.start(created.id, spec)).pid)
        undo.push("release network", partial(self._attachments.release, attachment.sandbox_id, None))
        self._attachments.hold(attachment)
        namespace, network = asyncio.Event(), asyncio.Event()

        async def attach() -> tuple[str, ...]:
            await self._attachments.make(attachment)
            namespace.set()
            ips = await self._attachments.add(attachment)
            network.set()
            return ips

        async def start() -> tuple[CreatedSandbox, StartedProcess]:
            if spec.security.namespaces.userns is not None:  # which owns the network namespace
                await namespace.wait()
            path = attachment.netns_path
            created = await sandboxes.create(spec, netns_path=path, sandbox_id=plan.sandbox_id)
            await (network if _sets_up_network(spec) else namespace).wait()
            return created, await sandboxes.start(created.id, spec)

        (created, started), ips = await both(start(), attach())
        return _Made(created, started.pid, ips, attachment.netns_path)

    async def _make_then_attach(self, plan: Plan, undo: Undo) -> _Made:
        """The engine makes the namespace while it starts the first process."""
        sandboxes, spec = plan.side.engine.sandboxes, plan.spec
        created = await sandboxes.create(spec)
        undo.push("remove sandbox", partial(sandboxes.remove, created.id))
        if spec.host_network:
            await self._records.note_object(plan.intent_id, created.id)
            return _Made(created, (await sandboxes.start(created.id, spec)).pid)
        attachment = self._attachments.plan(created.id, spec, plan.side.name)
        await self._records.attach(attachment, plan.intent_id)
        undo.push("release network", partial(self._attachments.release, created.id, None))
        self._attachments.hold(attachment)
        started, ips = await self._start_and_attach(sandboxes, attachment)
        return _Made(created, started.pid, ips, attachment.netns_path)

    async def _start_and_attach(
        self, sandboxes: SandboxRuntime, attachment: Attachment
    ) -> tuple[StartedProcess, tuple[str, ...]]:
        """Run CNI ADD beside the start, from when there is a namespace, which is compared with the final one."""
        sandbox_id, spec = attachment.sandbox_id, attachment.spec
        start = asyncio.ensure_future(sandboxes.start(sandbox_id, spec))
        search = asyncio.ensure_future(_nobody() if _sets_up_network(spec) else sandboxes.forerunner(sandbox_id, spec))
        try:
            await asyncio.wait((start, search), return_when=asyncio.FIRST_COMPLETED)
            pid = search.result() if search.done() and search.exception() is None else 0
            if pid and not start.done() and await self._pin(attachment, pid):
                started, ips = await both(_result(start), self._attachments.add(attachment))
                if self._attachments.is_of(attachment, started.pid):
                    return started, ips
                _LOG.warning("sandbox %s has ended, or is in another network namespace than at first", sandbox_id)
                await self._attachments.take_off(attachment)
            started = await start
        finally:
            start.cancel()
            search.cancel()
            await asyncio.gather(start, search, return_exceptions=True)
        if not await self._pin(attachment, started.pid):
            raise Unavailable(
                f"the first process of sandbox {sandbox_id} ended before it had a network: it was killed, or its "
                "engine ended; try again"
            )
        return started, await self._attachments.add(attachment)

    async def _pin(self, attachment: Attachment, pid: int) -> bool:
        try:
            await self._attachments.pin(attachment, pid)
        except NotFound:  # the process has ended since
            return False
        return True


def _sets_up_network(spec: SandboxSpec) -> bool:
    """Whether it matters to the pod's interfaces if they are made before its first process, or after."""
    return any(name.startswith(_NETWORK_SYSCTLS) for name in spec.sysctls)


async def _nobody() -> int:
    return 0


async def _result(job: asyncio.Future[StartedProcess]) -> StartedProcess:
    return await job
