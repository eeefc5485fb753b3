"""What a handler leaves behind that would end its worker: open scopes and nurseries, and a process that it has forked.

Owns how those are closed; refuses to know what becomes of the job.
"""
# ruff: noqa: SLF001 - neither loop has a public name for what is open

import asyncio
import os
import sys
import traceback
from contextlib import suppress
from typing import Any, cast

import trio

_LEFT_OPEN = (
    "the handler has left a cancel scope or a task group open, whose tasks are cancelled: as an async generator does that has"
    " one around its yield, and is not closed"
)
_WHY = "its handler has left it open"


def close_all_in_trio(scope: Any) -> bool:
    """Close what this task has opened within ``scope`` and not left, and cancel the tasks of it; return whether there was any.

    A scope that is left while another one is open in it ends all that is around it.
    """
    task: Any = trio.lowlevel.current_task()
    # Another version of the library may call it something else: what is left open ends the worker then, and no job fails of that.
    outer = getattr(scope, "_cancel_status", None)
    if outer is None or task._cancel_status is outer:
        return False
    for nursery in task.child_nurseries:
        nursery.cancel_scope.cancel(_WHY)
        # As of a task that ends: whoever closes it later, as the end of a generator does, waits for nothing.
        nursery._closed = True
    while task._cancel_status is not outer:
        task._cancel_status._scope.__exit__(None, None, None)
    # Else the task ends with an error, as one that was abandoned by them.
    task._child_nurseries.clear()
    return True


def close_all_in_asyncio(scope: Any) -> bool:
    """Do the same on asyncio."""
    # Trio has no use for it.
    from anyio._backends import _asyncio

    # As above.
    states: Any = getattr(_asyncio, "_task_states", {})
    state = states.get(asyncio.current_task())
    if state is None or state.cancel_scope is scope:
        return False
    while state.cancel_scope is not scope:
        inner = state.cancel_scope
        inner.cancel(_WHY)
        inner.__exit__(None, None, None)
    return True


def check_closed(was_open: bool) -> None:  # noqa: FBT001 - its only one
    """Fail for what was open, since its tasks did not come to their end.

    Raises:
        RuntimeError: something was.
    """
    if was_open:
        raise RuntimeError(_LEFT_OPEN)


def end_forked(process: int, raised: BaseException | None = None) -> None:
    """End this process if it is a child that a handler has forked out of ``process``, and that comes out of the handler.

    It has the connection of the worker, too: what it said there would be of both.
    """
    if os.getpid() == process:
        return
    code = int(raised is not None)
    with suppress(BaseException):
        if raised is not None and issubclass(type(raised), SystemExit):
            said = cast("SystemExit", raised).code
            code = said if isinstance(said, int) else int(said is not None)
            if isinstance(said, str):
                sys.stderr.write(f"{said}\n")
        elif raised is not None:
            traceback.print_exception(raised)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)
