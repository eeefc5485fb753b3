"""The planted faults. Code that gets a new rule gets its rows here, in the table of its directory."""

from planted.bounds import BOUNDS
from planted.commands import COMMANDS
from planted.compat import COMPAT
from planted.connections import CONNECTIONS
from planted.damage import DAMAGE
from planted.doors import DOORS
from planted.engine import ENGINE
from planted.hands import HANDS
from planted.happened import HAPPENED
from planted.kept import KEPT
from planted.lingering import LINGERING
from planted.others import OTHERS
from planted.postgres import POSTGRES
from planted.queues import QUEUES
from planted.row import Mutant
from planted.schedules import SCHEDULES
from planted.upkeep import UPKEEP
from planted.versions import VERSIONS

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = [
    *COMPAT,
    *CONNECTIONS,
    *DAMAGE,
    *DOORS,
    *ENGINE,
    *COMMANDS,
    *HANDS,
    *HAPPENED,
    *KEPT,
    *LINGERING,
    *OTHERS,
    *POSTGRES,
    *QUEUES,
    *SCHEDULES,
    *UPKEEP,
    *VERSIONS,
    *BOUNDS,
]
