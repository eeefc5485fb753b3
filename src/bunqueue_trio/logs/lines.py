"""Log lines: one fact each, for people on a terminal and as JSON otherwise. Never payloads or tokens.

Everything goes to stderr in one form, what libraries log through ``logging`` too: their warnings and
errors are facts as well, and a traceback of theirs becomes a field of the line, not text beside it.
Tracebacks show code, never the values of variables, which may be somebody's data.

A line that cannot be made or written is counted and dropped; whoever logs never fails and never waits.
"""

import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

# structlog reads rich, if it is installed, for tracebacks that we do not show: a tenth of an empty start.
_modules: dict[str, Any] = sys.modules
# As if it were not installed.
_modules.setdefault("rich", None)
import structlog  # noqa: E402

if _modules["rich"] is None:
    del _modules["rich"]

from bunqueue_trio.logs.limiter import Limiter  # noqa: E402
from bunqueue_trio.logs.printable import printable  # noqa: E402
from bunqueue_trio.logs.sink import Sink  # noqa: E402

get_logger = structlog.get_logger
"""For what a start reads before anything else has read structlog."""

SECRET_FIELDS = frozenset({"data", "result", "payload", "body", "token", "tokens", "authorization"})
"""Names of fields whose values never get into a log, whoever logs them."""

# Ours are the facts; of libraries only what is wrong: Hypercorn announces addresses that we announce.
_LIBRARIES_LEVEL = logging.WARNING
# Where a stream without a descriptor of its own would go in the end.
_STDERR = 2

EACH = "_each"
"""A field of an event that no limit holds back: its lines are bounded anyway, and no client causes them."""

LOST = "log lines could not be written"
LEFT_OUT = "more log lines of one kind than are shown"


def configure_logging(
    level: str, style: str, *, libraries: bool = True, limited: bool = True, door: int | None = None
) -> None:
    """Send logs of ``level`` and above to stderr; ``style`` is ``auto``, ``human`` or ``json``.

    ``door``: the number of the one whose lines these are.
    Without ``libraries`` what goes through ``logging`` stays with whoever has set that up. ``limited`` bounds how
    many lines of one kind a second has: for a server, whose clients cause them; a handler's lines are its own.
    """
    tty = sys.stderr is not None and sys.stderr.isatty()
    least: int = getattr(logging, level.upper())
    chain = _Chain(colors=tty, human=style == "human" or (style == "auto" and tty), limited=limited, door=door)
    # Of an earlier configuration: the lines stay in order.
    flush_logs()
    structlog.configure(
        processors=[chain],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=chain.sink,
        cache_logger_on_first_use=False,
    )
    if not libraries:
        return
    root = logging.getLogger()
    root.handlers = [_Handler(chain)]
    root.setLevel(max(least, _LIBRARIES_LEVEL))


def flush_logs() -> None:
    """Wait until what was logged is written, but not for a reader that does not read."""
    sink = structlog.get_config()["logger_factory"]
    if isinstance(sink, Sink):
        sink.flush()


def lines_dropped() -> dict[str, int]:
    """Return how many lines this process did not write, by reason."""
    chain = next((each for each in structlog.get_config()["processors"] if isinstance(each, _Chain)), None)
    return {
        "unwritable": 0 if chain is None else chain.sink.dropped,
        "repeated": 0 if chain is None else chain.limiter.dropped,
    }


class _Chain:
    """All that happens to an event until it is a line; a fault in it costs the line and nothing else."""

    def __init__(self, *, colors: bool, human: bool, limited: bool, door: int | None = None) -> None:
        self._door = {} if door is None else {"door": door}
        self.limiter = Limiter()
        self.sink = Sink(_descriptor(), self._lost, self._overdue)
        self._limit: Sequence[structlog.typing.Processor] = [self.limiter] if limited else []
        self._finish: Sequence[structlog.typing.Processor] = [
            structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso"), _mask,
            structlog.processors.format_exc_info,
            *(
                # Not rich's tracebacks, which is what is taken where rich is installed: they show variables.
                [_clean, structlog.dev.ConsoleRenderer(
                    colors=colors, exception_formatter=structlog.dev.plain_traceback)]
                if human
                else [structlog.processors.JSONRenderer()]
            ),
        ]  # fmt: skip

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        try:
            limit = () if event.pop(EACH, False) else self._limit
            return self._run([*limit, *self._finish], method, event)
        except Exception:
            self.sink.drop()
            raise structlog.DropEvent from None

    def of_library(self, record: logging.LogRecord) -> Any:
        """Return the line of a record of ``logging``."""
        event = {"event": record.getMessage(), "logger": record.name, "exc_info": record.exc_info}
        if self._limit:
            self.limiter(None, record.levelname.lower(), {"_record": record})
        if not record.exc_info:
            del event["exc_info"]
        return self._run(self._finish, record.levelname.lower(), event)

    def _run(self, steps: Iterable[structlog.typing.Processor], method: str, event: Any) -> Any:
        event = {**event, **self._door}
        for step in steps:
            event = step(None, method, event)
        return event

    def _lost(self, lines: int) -> str:
        return str(self._run(self._finish, "warning", {"event": LOST, "lines": lines}))

    def _overdue(self, *, at_once: bool) -> tuple[list[str], float | None]:
        found, again_s = self.limiter.overdue(at_once=at_once)
        lines = [
            str(self._run(self._finish, "warning", {"event": LEFT_OUT, "like": text, "lines": n})) for text, n in found
        ]
        return lines, again_s


class _Handler(logging.Handler):
    """Sends the records of libraries the same way."""

    def __init__(self, chain: _Chain) -> None:
        super().__init__()
        self._chain = chain

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._chain.sink.msg(self._chain.of_library(record))
        except structlog.DropEvent:
            # The limiter has counted it.
            pass
        except Exception:
            self._chain.sink.drop()


def _descriptor() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        # There is none, or a host has put something else there.
        return _STDERR


def _mask(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Hide the values of fields that hold somebody's data."""
    for name in SECRET_FIELDS & event.keys():
        event[name] = "…"
    return event


def _clean(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Write out the control characters in what a person will see; only tracebacks have lines."""
    for name, value in event.items():
        if name in {"exception", "stack"}:
            event[name] = printable(value, keep="\n\t")
        elif isinstance(value, str):
            event[name] = printable(value)
        elif value is not None and not isinstance(value, int | float):
            shown = repr(value)
            event[name] = value if printable(shown) == shown else printable(shown)
    return event
