"""Settings and every number that limits something; whoever needs one takes it from here."""

from bunqueue_trio.config.limits import *  # noqa: F403 - constants of all parts
from bunqueue_trio.config.loading import Loaded, load
from bunqueue_trio.config.settings import *  # noqa: F403 - the groups, and Settings
from bunqueue_trio.config.spelling import NO_LIMIT, UNIX_PATH_MAX, Bind, check_data_path, parse_bind, parse_duration_ms

__all__ = [
    "NO_LIMIT",
    "UNIX_PATH_MAX",
    "Bind",
    "Loaded",
    "check_data_path",
    "load",
    "parse_bind",
    "parse_duration_ms",
]  # and the starred
