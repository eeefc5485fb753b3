"""Each signal counts, also two in one step of the loop, and one that comes when all is over changes nothing."""

import signal
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from bunqueue_trio.runtime.signals import Signals

ONE, OTHER = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def wanted() -> Iterator[set[int]]:
    before = {number: signal.getsignal(number) for number in (ONE, OTHER)}
    yield set(before)
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: int) -> None:
    """Send signals of which the interpreter hears when the last one has come."""
    thread = threading.Thread(target=lambda: [signal.raise_signal(number) for number in numbers])
    thread.start()
    thread.join()


async def test_signals_of_one_step_are_all_heard(wanted: set[int], nursery: trio.Nursery) -> None:
    came: list[int] = []

    async def hear() -> None:
        while True:
            came.append(await anext(signals))

    with Signals(wanted) as signals, trio.fail_after(60):
        send(ONE, ONE, OTHER, ONE)
        nursery.start_soon(hear)
        while len(came) < 4:  # noqa: ASYNC110 - a thread of the interpreter's sends, nobody tells
            await trio.sleep(0.001)
        send(OTHER, OTHER)
        while len(came) < 6:  # noqa: ASYNC110 - as above
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert came == [ONE, ONE, OTHER, ONE, OTHER, OTHER]


async def test_a_signal_that_comes_when_all_is_over_ends_nothing(wanted: set[int]) -> None:
    with Signals(wanted):
        await trio.lowlevel.checkpoint()
    assert {signal.getsignal(number) for number in wanted} == {signal.SIG_IGN}
    send(ONE, OTHER)
    trios = signal.set_wakeup_fd(-1)
    assert trios >= 0
    signal.set_wakeup_fd(trios)
