"""Settings of queues that nobody uses, in a server: a look each minute."""

from typing import Any

import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue


async def test_settings_that_nobody_uses_are_forgotten_with_a_line_in_the_log(
    autojump_clock: object, logs: list[dict[str, Any]]
):
    async with Bunqueue(Settings(retention_age_ms=10 * 60_000)) as bunqueue:
        run = bunqueue.server.core.execute
        await run(c.SetDefaults(queue="slip", timeout=5))
        await run(c.Pause(queue="meant"))
        await run(c.SetDefaults(queue="meant", timeout=5))

        async def pass_by(minutes: int) -> None:
            for _ in range(minutes):
                await trio.sleep(60)
                await bunqueue.server.note_minute()

        await pass_by(10)
        assert list(bunqueue.server.engine.configs.names) == ["meant", "slip"]
        await pass_by(2)
        assert list(bunqueue.server.engine.configs.names) == ["meant"]
        [line] = [entry for entry in logs if entry["event"].startswith("the settings of a queue")]
        assert line["queue"] == "slip"
        # A start with a wrong clock takes nothing for old.
        await run(c.SetDefaults(queue="later", timeout=5))
        await pass_by(1)
        await trio.sleep(1)
        await bunqueue.crash()
        bunqueue.step_clock(30 * 86400)
        await bunqueue.recover()
        await pass_by(3)
        assert list(bunqueue.server.engine.configs.names) == ["later", "meant"]
        await pass_by(8)
        assert list(bunqueue.server.engine.configs.names) == ["meant"]
        await bunqueue.crash()
        await bunqueue.recover()
        assert list(bunqueue.server.engine.configs.names) == ["meant"]
