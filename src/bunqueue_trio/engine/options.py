"""The options of a job, as they are kept: made from those of a push, or of a schedule."""

from msgspec import UNSET

from bunqueue_trio.engine.configs import STANDARD, Defaults
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Options, Series, Shape
from bunqueue_trio.protocol import commands as c

_SHARED_MAX = 1024
"""Sets of options that are shared between jobs; a producer with more than that shares less."""


def backoff_of(said: int | c.Backoff) -> tuple[int, Shape | None]:
    """Return the delay of a backoff, and how its waits are made of it where that was said."""
    if isinstance(said, int):
        return said, None
    return said.delay, Shape(said.type == "fixed", said.max_delay, said.jitter)


def options_of(spec: c.PushSpec, now: int, shared: dict[Options, Options], defaults: Defaults = STANDARD) -> Options:
    """Return the options of a job that is pushed with ``spec``; equal ones are one object, by way of ``shared``.

    ``defaults``: of its queue, for what the push does not say.
    """
    repeat = spec.repeat
    backoff, shape = (defaults.backoff, defaults.shape) if spec.backoff is UNSET else backoff_of(spec.backoff)
    options = Options(
        max_attempts=defaults.max_attempts if spec.max_attempts is UNSET else spec.max_attempts,
        backoff=backoff,
        ttl=defaults.ttl if spec.ttl is None else spec.ttl,
        timeout=defaults.timeout if spec.timeout is None else spec.timeout or None,
        unique_key=spec.unique_key,
        tags=tuple(spec.tags),
        group_id=spec.group_id,
        lifo=spec.lifo,
        remove_on_complete=defaults.remove_on_complete if spec.remove_on_complete is UNSET else spec.remove_on_complete,
        remove_on_fail=defaults.remove_on_fail if spec.remove_on_fail is UNSET else spec.remove_on_fail,
        depends_on=tuple(spec.depends_on),
        series=None if repeat is None else Series(repeat.every, repeat.limit, 1, now + spec.delay, name=repeat.name),
        shape=shape,
        name=spec.name,
    )
    if options == DEFAULT_OPTIONS:
        return DEFAULT_OPTIONS
    if options.unique_key is not None or options.depends_on or options.series is not None:
        # Hardly ever equal to another's.
        return options
    if len(shared) >= _SHARED_MAX:
        shared.clear()
    return shared.setdefault(options, options)
