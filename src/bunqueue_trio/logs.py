"""Log lines: one fact each, for people on a terminal and as JSON otherwise. Never payloads or tokens."""

import logging
import sys

import structlog


def configure_logging(level: str, style: str) -> None:
    """Send logs of ``level`` and above to stderr; ``style`` is ``auto``, ``human`` or ``json``."""
    human = style == "human" or (style == "auto" and sys.stderr.isatty())
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
