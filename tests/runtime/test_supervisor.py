"""A supervised task is restarted within its budget; a broken invariant never is."""

from collections.abc import Iterator

import pytest
import trio

from bunqueue_trio.config import RESTARTS_WINDOW_MS
from bunqueue_trio.runtime.supervisor import Child, supervise


class Failing:
    """A task that lives for some time and then fails, again and again; then it lives for ever."""

    def __init__(self, *errors: BaseException, lives_s: float = 0.0) -> None:
        self.errors: Iterator[BaseException] = iter(errors)
        self.lives_s = lives_s
        self.started_s: list[float] = []

    async def run(self) -> None:
        self.started_s.append(trio.current_time())
        await trio.sleep(self.lives_s)
        error = next(self.errors, None)
        if error is not None:
            raise error
        await trio.sleep_forever()


async def supervised(task: Failing, restarts_max: int = 5, seconds: float = 100.0) -> Child:
    child = Child("task", task.run, restarts_max)
    with trio.move_on_after(seconds):
        await supervise(child)
    return child


async def test_a_failed_task_is_restarted_after_growing_waits(logs):
    task = Failing(*[ValueError(i) for i in range(5)])
    child = await supervised(task)
    begun = task.started_s[0]
    assert [round(at - begun, 3) for at in task.started_s] == [0, 0, 0.1, 1.1, 4.1, 7.1]
    assert (child.restarts, child.state, child.last_error) == (5, "running", "ValueError: 4")
    assert [entry["event"] for entry in logs] == ["task failed, restarting"] * 5
    assert all(entry["exc_info"] for entry in logs)


async def test_a_spent_budget_raises_the_last_failure(logs):
    task = Failing(*[ValueError(i) for i in range(10)])
    child = Child("task", task.run, restarts_max=3)
    with pytest.raises(ValueError, match="3"):
        await supervise(child)
    assert (len(task.started_s), child.restarts, child.state) == (4, 3, "failed")
    assert logs[-1]["log_level"] == "critical"


async def test_failures_of_long_ago_are_forgotten(logs):
    task = Failing(*[ValueError(i) for i in range(20)], lives_s=RESTARTS_WINDOW_MS / 1000 / 3)
    child = await supervised(task, restarts_max=3, seconds=1000)
    assert child.restarts == 20
    assert len(child.failures) <= 3


async def test_exactly_at_the_end_of_the_window_a_failure_is_forgotten(logs):
    task = Failing(ValueError(), ValueError(), lives_s=RESTARTS_WINDOW_MS / 1000)
    child = await supervised(task, restarts_max=1, seconds=1000)
    assert (child.restarts, child.state) == (2, "running")


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("broken"),
        ExceptionGroup("group", [ValueError(), AssertionError("broken")]),
        ExceptionGroup("group", [ExceptionGroup("inner", [AssertionError("broken")])]),
    ],
    ids=["alone", "in a group", "deep in a group"],
)
async def test_a_broken_invariant_is_never_restarted(error: Exception, logs):
    task = Failing(error)
    child = Child("task", task.run)
    with pytest.raises(type(error)) as raised:
        await supervise(child)
    assert raised.value is error
    assert (len(task.started_s), child.state) == (1, "failed")


async def test_a_group_without_a_broken_invariant_is_restarted(logs):
    child = await supervised(Failing(ExceptionGroup("group", [ValueError(), OSError()])))
    assert child.restarts == 1


async def test_cancellation_passes_and_is_no_failure(logs):
    task = Failing()
    child = Child("task", task.run)
    with trio.move_on_after(1) as scope:
        await supervise(child)
    assert scope.cancelled_caught
    assert (child.restarts, child.last_error, logs) == (0, None, [])


async def test_cancellation_passes_during_a_wait_for_a_restart(logs):
    task = Failing(*[ValueError()] * 4)
    await supervised(task, seconds=2)
    assert len(task.started_s) == 4


async def test_what_is_no_exception_passes_at_once(logs):
    class End(BaseException):
        pass

    task = Failing(End())
    with pytest.raises(End):
        await supervise(Child("task", task.run))
    assert logs == []


async def test_a_task_that_returns_is_finished(logs):
    async def run() -> None:
        await trio.sleep(1)

    child = Child("task", run)
    await supervise(child)
    assert (child.state, child.restarts) == ("finished", 0)
