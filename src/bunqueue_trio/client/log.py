"""What client and worker say; saying it can cost a line and nothing else.

Lines go where structlog was configured to send them, as the command line does, and else to the logger ``bunqueue_trio``
of the standard library: a program that has set up neither finds warnings on its standard error.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import structlog

from bunqueue_trio.logs.printable import printable

_PLAIN = logging.getLogger("bunqueue_trio")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
# What has lines of its own, and comes after the others.
_LINES, _LINE_END = "exception", "\n"

# Characters of what is remembered: what fails often says the same.
SHORT = 2000

Fields = Mapping[str, Any]


class Log:
    """Says things at three levels."""

    def debug(self, event: str, **fields: Any) -> None:
        """Say what is of interest to whoever looks for something."""
        self._say("debug", event, (fields,))

    def info(self, event: str, **fields: Any) -> None:
        """Say what is as it should be."""
        self._say("info", event, (fields,))

    def warning(self, event: str, **fields: Any) -> None:
        """Say what somebody may want to mend."""
        self._say("warning", event, (fields,))

    def warn_of_many(self, event: str, many: Iterable[Fields]) -> None:
        """Say the same of many things, each in a line of its own: to say one of them alone costs more than a job."""
        self._say("warning", event, many)

    def hears(self, level: str) -> bool:
        """Return whether anybody may see a line of this level: what nobody sees need not be made."""
        try:
            if structlog.is_configured():
                return bool(structlog.get_logger().is_enabled_for(_LEVELS[level]))
            return _PLAIN.isEnabledFor(_LEVELS[level])
        except Exception:
            # Of whatever somebody has set up there.
            return True

    def _say(self, level: str, event: str, many: Iterable[Fields]) -> None:
        with suppress(Exception):
            if structlog.is_configured():
                say = getattr(structlog.get_logger(), level)
                for fields in many:
                    # What the others say is said all the same.
                    with suppress(Exception):
                        say(event, **fields)
            elif _PLAIN.isEnabledFor(_LEVELS[level]):
                texts: list[str] = []
                for fields in many:
                    with suppress(Exception):
                        texts.append(_line(event, fields))
                _say_plainly(_LEVELS[level], texts)


log: Log = Log()


def show_plainly() -> None:
    """Show all that is said on standard error, in a program that has set up no log at all."""
    if not structlog.is_configured():
        # Only where the program has configured no logging of its own.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _say_plainly(level: int, texts: list[str]) -> None:
    last = logging.lastResort
    if last is not None and not (_PLAIN.hasHandlers() or _PLAIN.filters):
        # Nobody has set up anything: what that writes one by one goes out at once.
        if texts and level >= last.level:
            print(*texts, sep="\n", file=last.stream, flush=True)  # type: ignore[attr-defined]
        return
    for text in texts:
        # What finds out who says it costs more than the rest.
        with suppress(Exception):
            _PLAIN.handle(_PLAIN.makeRecord(_PLAIN.name, level, __file__, 0, "%s", (text,), None, "log"))


@lru_cache(maxsize=256)
def _shown(lines: str) -> str:
    return f"\n{printable(lines, keep=_LINE_END)}".rstrip()


def _line(event: str, fields: Fields) -> str:
    words, lines = [event], ""
    for name, value in fields.items():
        if name == _LINES:
            shown = _shown if len(value) < SHORT else _shown.__wrapped__
            lines = shown(value)
        else:
            words.append(f"{name}={value!s}")
    # All words at once: a failure's line costs as much as the failure.
    return printable(" ".join(words)) + lines
