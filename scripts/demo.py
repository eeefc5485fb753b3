"""Run every file of a directory tree through a real server, and prove every result.

The demo starts a server, three worker processes and a producer. Each file of the Python standard
library (or of `--tree`) becomes a job; a worker reads the file and answers with its SHA-256 and its
word count. Every twentieth job or so fails on purpose at the first try, and one worker is killed in
the middle of a batch, so that retries and redelivery are seen too. In the end every result is
compared with one computed here, without the queue.

This file only makes sure of the environment; the story is in `demo_run.py`.
"""

import bootstrap

if __name__ == "__main__":
    bootstrap.reexec()

    from demo_run import main
    from leftovers import nothing_left

    with nothing_left():
        raise SystemExit(main())
