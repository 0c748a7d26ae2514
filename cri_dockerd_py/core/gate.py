"""Order of writes on one object: many may use it at once, one may end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Gate:
    __slots__ = ("changed", "closing", "users", "waiting")

    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.users = 0
        self.closing = False
        self.waiting = 0


class Gates:
    """A gate an object id; a gate exists only while somebody holds it."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def use(self, object_id: str) -> AsyncIterator[None]:
        """Hold together with other users; waits while somebody is ending the object."""
        gate = await self._enter(object_id, exclusive=False)
        gate.users += 1
        try:
            yield
        finally:
            gate.users -= 1
            await self._leave(object_id, gate)

    @asynccontextmanager
    async def end(self, object_id: str) -> AsyncIterator[None]:
        """Hold alone; those who want to use the object wait from the moment of asking."""
        gate = await self._enter(object_id, exclusive=True)
        try:
            yield
        finally:
            gate.closing = False
            await self._leave(object_id, gate)

    async def _enter(self, object_id: str, *, exclusive: bool) -> _Gate:
        gate = self._gates.setdefault(object_id, _Gate())
        gate.waiting += 1
        try:
            async with gate.changed:
                await gate.changed.wait_for(lambda: not gate.closing)
                if exclusive:
                    gate.closing = True
                    try:
                        await gate.changed.wait_for(lambda: gate.users == 0)
                    except BaseException:
                        gate.closing = False
                        gate.changed.notify_all()
                        raise
        except BaseException:
            gate.waiting -= 1
            self._forget_idle(object_id, gate)
            raise
        gate.waiting -= 1
        return gate

    async def _leave(self, object_id: str, gate: _Gate) -> None:
        async with gate.changed:
            gate.changed.notify_all()
        self._forget_idle(object_id, gate)

    def _forget_idle(self, object_id: str, gate: _Gate) -> None:
        if not gate.users and not gate.closing and not gate.waiting:
            self._gates.pop(object_id, None)
