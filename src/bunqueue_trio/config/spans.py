"""How long something is, as people read it: one spelling for all pages and commands. ``spelling.py`` reads what they write."""

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))
# In seconds, or ms; a part of one says something only below it.
_FEW = 10


def span(ms: float) -> str:
    """Return a time in its largest unit, and one of the next while the first is small: ``1.5 s``, ``41 min``, ``1 h 20 min``."""
    ms = max(0, ms)
    for i, (unit, name) in enumerate(_UNITS):
        if ms >= unit:
            whole = int(ms // unit)
            if name == "s" and whole < _FEW:
                return f"{int(ms // 100) / 10:g} s"
            if whole < 3 and i + 1 < len(_UNITS):
                part, smaller = _UNITS[i + 1]
                rest = int(ms % unit // part)
                if rest:
                    return f"{whole} {name} {rest} {smaller}"
            return f"{whole} {name}"
    # As a database answers.
    return f"{round(ms, 1) if ms < _FEW else round(ms):g} ms"


def whole(ms: int) -> str:
    """Return a time to the ms, in the largest unit in which it is a whole number: ``90 s``; what was set is shown so."""
    return " ".join(map(str, _whole(ms)))


def typed_ms(ms: int) -> str:
    """Return the same as the settings and the command line take it: ``90s``, ``5m``."""
    number, name = _whole(ms)
    return f"{number}{'m' if name == 'min' else name}"


def _whole(ms: int) -> tuple[int, str]:
    return next(((ms // unit, name) for unit, name in _UNITS if ms and ms % unit == 0), (ms, "ms"))
