"""The first step of a door's process: ``python -m bunqueue_trio.doors.start NUMBER LEADER LINK SOCKET...``, started by the leader and by nobody else.

It ends with its leader, which may be killed at any moment, from before it reads what takes a second: it has the leader's addresses already,
and a server that is started anew needs them. Owns that, and refuses to import anything.
"""

import ctypes
import os
import signal
import sys

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Be a door until the leader ends it, or is gone."""
    # Ctrl-C in a terminal reaches all of a server's processes: the leader decides when its doors stop.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    _end_with(int(sys.argv[2]))
    from bunqueue_trio.doors.process import main as be_a_door

    be_a_door()


def _end_with(leader: int) -> None:
    """Let the kernel end this process when the one that started it ends, even while it is stopped, where the kernel can."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        # The end of the link says it, to a process that runs.
        pass
    # It was gone before.
    if os.getppid() != leader:
        sys.exit(0)


if __name__ == "__main__":
    main()
