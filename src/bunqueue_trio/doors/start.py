"""The first step of a door's process: ``python -m bunqueue_trio.doors.start NUMBER LEADER LINK +SOCKETS``, started by the leader and by nobody else.

It ends with its leader, which may be killed at any moment, from before it reads what takes a second. Only when that is sure it says so, and gets the
leader's sockets: until then it may be stopped, and outlive its leader, and a server that is started anew needs their addresses.
Owns that, and refuses to import anything but that word. (A leader of an older version names the sockets that it hands down instead of how many there will be.)
"""

import ctypes
import os
import signal
import sys

from bunqueue_trio.doors.up import UP

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Be a door until the leader ends it, or is gone."""
    # Ctrl-C in a terminal reaches all of a server's processes: the leader decides when its doors stop.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    _, leader, link, *sockets = sys.argv[1:]
    _end_with(int(leader))
    if sockets and sockets[0].startswith("+"):
        try:
            os.write(int(link), UP)
        except OSError:
            # It was gone before.
            return
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
