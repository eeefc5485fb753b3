"""Log lines: one fact each, for people on a terminal and as JSON otherwise. Never payloads or tokens.

Everything goes to stderr in one form, what libraries log through ``logging`` too: their warnings and
errors are facts as well, and a traceback of theirs becomes a field of the line, not text beside it.
Tracebacks show code, never the values of variables, which may be somebody's data.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

# structlog reads rich, if it is installed, for tracebacks that we do not show: a tenth of an empty start.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("rich", None)  # as if it were not installed
import structlog  # noqa: E402

if _modules["rich"] is None:
    del _modules["rich"]

get_logger = structlog.get_logger
"""For what a start reads before anything else has read structlog."""

SECRET_FIELDS = frozenset({"data", "result", "payload", "body", "token", "tokens", "authorization"})
"""Names of fields whose values never get into a log, whoever logs them."""

# Ours are the facts; of libraries only what is wrong: Hypercorn announces addresses that we announce.
_LIBRARIES_LEVEL = logging.WARNING


def configure_logging(level: str, style: str, *, libraries: bool = True) -> None:
    """Send logs of ``level`` and above to stderr; ``style`` is ``auto``, ``human`` or ``json``.

    Without ``libraries`` what goes through ``logging`` stays with whoever has set that up.
    """
    human = style == "human" or (style == "auto" and sys.stderr.isatty())
    least: int = getattr(logging, level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        _mask,
    ]
    renderer: list[structlog.typing.Processor] = (
        # Not rich's tracebacks, which is what is taken where rich is installed: they show variables.
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    if not libraries:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, _LIBRARIES_LEVEL))


def _mask(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Hide the values of fields that hold somebody's data."""
    for name in SECRET_FIELDS & event.keys():
        event[name] = "…"
    return event
