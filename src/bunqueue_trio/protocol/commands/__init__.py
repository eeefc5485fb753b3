"""Every command of the server as a typed struct, by theme, each with its row; ``catalog.py`` puts the rows together."""

# ruff: noqa: F403 - a theme gives what it defines; there is no list of its names to forget one in

from bunqueue_trio.protocol.commands.actions import *
from bunqueue_trio.protocol.commands.base import *
from bunqueue_trio.protocol.commands.clear import *
from bunqueue_trio.protocol.commands.configs import *
from bunqueue_trio.protocol.commands.crons import *
from bunqueue_trio.protocol.commands.dead import *
from bunqueue_trio.protocol.commands.deliver import *
from bunqueue_trio.protocol.commands.find import *
from bunqueue_trio.protocol.commands.jobs import *
from bunqueue_trio.protocol.commands.logs import *
from bunqueue_trio.protocol.commands.look import *
from bunqueue_trio.protocol.commands.manage import *
from bunqueue_trio.protocol.commands.push import *
from bunqueue_trio.protocol.commands.queues import *
from bunqueue_trio.protocol.commands.report import *
from bunqueue_trio.protocol.commands.reruns import *
from bunqueue_trio.protocol.commands.schedules import *
from bunqueue_trio.protocol.commands.session import *
from bunqueue_trio.protocol.commands.upkeep import *
from bunqueue_trio.protocol.commands.workers import *

del SPECS  # noqa: F821 - rows of the theme that came last; all of them are in catalog.py
