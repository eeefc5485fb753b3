"""The options of a job, as they are kept: made of what is said at a push, or in a schedule."""

from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Options, Series, Shape
from bunqueue_trio.protocol import commands as c

_SHARED_MAX = 1024
"""Sets of options that are shared between jobs; a producer with more than that shares less."""


def options_of(spec: c.JobSpec, now: int, shared: dict[Options, Options]) -> Options:
    """Return the options of a job that is pushed with ``spec``; equal ones are one object, by way of ``shared``."""
    repeat, backoff, shape = spec.repeat, spec.backoff, None
    if not isinstance(backoff, int):
        shape = Shape(backoff.type == "fixed", backoff.max_delay, backoff.jitter)
        backoff = backoff.delay
    options = Options(
        max_attempts=spec.max_attempts,
        backoff=backoff,
        ttl=spec.ttl,
        timeout=spec.timeout or None,
        unique_key=spec.unique_key,
        tags=tuple(spec.tags),
        group_id=spec.group_id,
        lifo=spec.lifo,
        remove_on_complete=spec.remove_on_complete,
        remove_on_fail=spec.remove_on_fail,
        depends_on=tuple(spec.depends_on),
        series=None if repeat is None else Series(repeat.every, repeat.limit, 1, now + spec.delay, name=repeat.name),
        shape=shape,
    )
    if options == DEFAULT_OPTIONS:
        return DEFAULT_OPTIONS
    if options.unique_key is not None or options.depends_on or options.series is not None:
        return options  # hardly ever equal to another's
    if len(shared) >= _SHARED_MAX:
        shared.clear()
    return shared.setdefault(options, options)
