"""A process that has read the code and forks for each command, servers too: a fifth of the time of a new Python.

Its standard input is the socket at which it listens.
"""

import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from bunqueue_trio import cli


def main() -> None:
    """Serve until whoever started it is gone."""
    parent = os.getppid()
    for name in {*cli.COMMANDS.values()}:
        import_module(f"bunqueue_trio.cli.{name}")
    import_module("bunqueue_trio.run")
    # Who is forked here is waited for by nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as listening:
        listening.settimeout(1)
        while os.getppid() == parent:
            with suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    run_and_tell(connection)
                connection.close()


def run_and_tell(connection: socket.socket) -> NoReturn:
    """Run the command that is asked for in a process of its own, and send its exit code; of one that `stays` its id."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
    asked = json.loads(connection.makefile().readline())
    stays = asked.pop("stays")
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(**asked)
    if stays:
        # Of its own, so that what is sent to the tests is not sent to it.
        os.setpgid(pid, pid)
        told = pid
    else:
        told = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(b"%d\n" % told)
    os._exit(0)


def run(arguments: list[str], env: dict[str, str], cwd: str, files: list[str]) -> NoReturn:
    """Become the command."""
    for fd, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_APPEND), fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    code: Any = 0
    try:
        cli.main(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: ASYNC103 - nothing is awaited here
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
