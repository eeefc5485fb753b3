"""Settings, and the numbers that limit what clients, disks and clocks may do; whoever needs one takes it from here.

The ranges of fields are with the fields (``protocol/commands/base.py``); what only one file needs is at the top of it: how the
clients try again, how long SQLite waits, how many log lines of a kind are written.
"""

from bunqueue_trio.config.limits import *  # noqa: F403 - constants of all parts
from bunqueue_trio.config.loading import Loaded, instead_of_bind, load
from bunqueue_trio.config.settings import *  # noqa: F403 - the groups, and Settings
from bunqueue_trio.config.spelling import (
    NO_LIMIT,
    UNIX_PATH_MAX,
    Bind,
    check_data_path,
    parse_bind,
    parse_bool,
    parse_duration_ms,
    parse_store,
    parse_typed_ms,
    parse_whole,
    without_password,
)
from bunqueue_trio.config.tokens import ROLES, NamedToken

# And the starred.
__all__ = [
    "NO_LIMIT",
    "ROLES",
    "UNIX_PATH_MAX",
    "Bind",
    "Loaded",
    "NamedToken",
    "check_data_path",
    "instead_of_bind",
    "load",
    "parse_bind",
    "parse_bool",
    "parse_duration_ms",
    "parse_store",
    "parse_typed_ms",
    "parse_whole",
    "without_password",
]
