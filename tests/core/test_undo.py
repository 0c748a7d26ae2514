from __future__ import annotations

from cri_dockerd_py.core.undo import Undo


async def test_steps_are_taken_back_last_first_whatever_fails() -> None:
    taken: list[str] = []
    undo = Undo(within_s=5)

    async def step(name: str) -> None:
        taken.append(name)
        if name == "two":
            raise OSError("it does not want to go")

    for name in ("one", "two", "three"):
        undo.push(name, lambda name=name: step(name))

    assert not await undo.run()
    assert taken == ["three", "two", "one"]


async def test_nothing_is_taken_back_once_the_operation_is_whole() -> None:
    undo = Undo(within_s=5)

    async def step() -> None:
        raise AssertionError("it was to be kept")

    undo.push("one", step)
    undo.keep()

    assert await undo.run()
