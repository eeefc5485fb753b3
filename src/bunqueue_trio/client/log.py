"""What client and worker say; saying it can cost a line and nothing else.

Lines go where structlog was configured to send them, as the command line does, and else to the logger ``bunqueue_trio``
of the standard library: a program that has set up neither finds warnings on its standard error.
"""

import logging
from typing import Any

import structlog

from bunqueue_trio.logs.printable import printable

_PLAIN = logging.getLogger("bunqueue_trio")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
# What has lines of its own, and comes after the others.
_LINES, _LINE_END = "exception", "\n"


class Log:
    """Says things at three levels."""

    def debug(self, event: str, **fields: Any) -> None:
        """Say what is of interest to whoever looks for something."""
        self._say("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Say what is as it should be."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Say what somebody may want to mend."""
        self._say("warning", event, fields)

    def hears(self, level: str) -> bool:
        """Return whether anybody may see a line of this level: what nobody sees need not be made."""
        try:
            if structlog.is_configured():
                return bool(structlog.get_logger().is_enabled_for(_LEVELS[level]))
            return _PLAIN.isEnabledFor(_LEVELS[level])
        except Exception:
            # Of whatever somebody has set up there.
            return True

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        try:
            if structlog.is_configured():
                getattr(structlog.get_logger(), level)(event, **fields)
            elif _PLAIN.isEnabledFor(_LEVELS[level]):
                _PLAIN.log(_LEVELS[level], "%s", _line(event, fields))
        except Exception:  # noqa: S110 - a log that fails, whose ever it is, has nobody who could hear of it
            pass


log: Log = Log()


def show_plainly() -> None:
    """Show all that is said on standard error, in a program that has set up no log at all."""
    if not structlog.is_configured():
        # Only where the program has configured no logging of its own.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _line(event: str, fields: dict[str, Any]) -> str:
    words, lines = [event], ""
    for name, value in fields.items():
        if name == _LINES:
            lines = f"\n{printable(value, keep=_LINE_END)}"
        else:
            words.append(f"{name}={value!s}")
    # All words at once: a failure's line costs as much as the failure.
    return printable(" ".join(words)) + lines.rstrip()
