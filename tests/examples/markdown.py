"""Runs a page of the documentation the way its reader does, from top to bottom, and compares what it shows.

| block | what happens |
| --- | --- |
| `sh` | runs in the reader's shell, which keeps its variables and its directory; it must succeed |
| `sh NAME` | runs in a terminal of that name, in the environment `venv` if there is one; what still runs there is stopped first, with Ctrl-C |
| `python`, its first line `# NAME.py` | becomes that file |
| `text` | what the last `sh` block printed, all of it; `…` stands for anything |
| `text NAME` | what the terminal of that name prints from here on, among other things |
| `ini` | becomes the file that its first line names |
| a comment, `<!-- CODE -->` | runs in the reader's shell: mostly waits, since a reader is slower than a program |
| a comment, `<!-- Ctrl-C NAME -->` | is pressed in that terminal |

The port of the page, 6790, is replaced by a free one.
"""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

PORT = "6790"
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$|^<!-- (.*?) -->$", re.DOTALL | re.MULTILINE)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
ANYTHING = "…"
ACTIVATE = "if [ -e venv ]; then . venv/bin/activate; fi"
WAIT_S = 90.0  # 0.4 s on a quiet machine
DONE = "block-ended-with"


class Terminal:
    """A program in a terminal of its own, and what it prints."""

    def __init__(self, code: str, directory: Path, env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "-c", code],
            cwd=directory,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.printed = ""

    def expect(self, pattern: re.Pattern[str]) -> None:
        """Wait until it has printed what matches; what comes before is not looked at again."""
        deadline = time.monotonic() + WAIT_S
        while (found := pattern.search(self.printed)) is None:
            assert time.monotonic() < deadline, f"no {pattern.pattern!r} in:\n{self.printed}"
            self._read(0.1)
        self.printed = self.printed[found.end() :]

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._signal(signal.SIGINT)

    def stop(self) -> None:
        """Stop it as its reader does."""
        deadline = time.monotonic() + WAIT_S
        self.interrupt()
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it does not stop:\n{self.printed}"
            self._read(0.05)
        os.close(self._master)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self, timeout_s: float) -> None:
        if select.select([self._master], [], [], timeout_s)[0]:
            with contextlib.suppress(OSError):  # it has ended
                self.printed += ESCAPES.sub("", os.read(self._master, 65_536).decode(errors="replace"))


class Reader:
    """Somebody who does what a page says. Use as a context manager."""

    def __init__(self, directory: Path, env: Mapping[str, str], port: int) -> None:
        self._directory = directory
        self._env = env
        self._port = port
        self._terminals: dict[str, Terminal] = {}
        self._printed = ""
        self._shell = subprocess.Popen(
            ["bash", "--norc"], cwd=directory, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._terminals.values():
            terminal.kill()
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()

    def follow(self, page: str) -> int:
        """Do everything; return how many blocks there were.

        Raises:
            AssertionError: the page says something that is not so.
        """
        blocks = list(BLOCK.finditer(page))
        assert len(blocks) == page.count("```") / 2 + page.count("<!--"), "a block that is not understood"
        for block in blocks:
            kind, name, code = block.groups()[:3] if block[1] else ("sh", None, block[4])
            try:
                self._do(kind, name, code.replace(PORT, str(self._port)))
            except AssertionError as error:
                line = page[: block.start()].count("\n") + 1
                raise AssertionError(f"line {line}: {error}\n{self._last_words()}") from None
        return len(blocks)

    def _do(self, kind: str, name: str | None, code: str) -> None:
        if kind == "sh" and name is None and code.startswith("Ctrl-C "):
            self._terminals[code.removeprefix("Ctrl-C ")].interrupt()
        elif kind == "sh" and name is None:
            self._run(code)
        elif kind == "sh":
            assert name is not None
            if name in self._terminals:
                self._terminals.pop(name).stop()
            self._terminals[name] = Terminal(f"{ACTIVATE}\n{code}", self._directory, self._env)
        elif kind == "text" and name is None:
            printed = "\n".join(line.rstrip() for line in self._printed.strip().splitlines())
            assert pattern_of(code).fullmatch(printed), f"expected:\n{code}\nprinted:\n{printed}\n"
        elif kind == "text":
            assert name in self._terminals, f"there is no terminal {name}"
            self._terminals[name].expect(pattern_of(code))
        else:
            assert kind in ("python", "ini"), f"nobody knows how to run {kind}"
            first = re.match(r"# (\S+)\n", code)
            assert first, "its first line names the file"
            (self._directory / first[1]).write_text(code)

    def _run(self, code: str) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{\n{code}\n}} < /dev/null\necho; echo {DONE} $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        while not lines or not lines[-1].startswith(DONE):
            line = self._shell.stdout.readline()
            assert line, f"the shell has ended: {''.join(lines)}"
            lines.append(line)
        status = lines.pop().split()[1]
        self._printed = ESCAPES.sub("", "".join(lines))
        assert status == "0", f"exit code {status}: {code}\n{self._printed}"

    def _last_words(self) -> str:
        return "\n".join(f"--- {name}:\n{terminal.printed[-2000:]}" for name, terminal in self._terminals.items())


def pattern_of(text: str) -> re.Pattern[str]:
    """Return what matches the text: `…` is anything within a line, alone on a line any lines."""
    lines = [
        r"(?:.*\n)*?.*" if line.strip() == ANYTHING else "[^\n]*".join(map(re.escape, line.split(ANYTHING)))
        for line in text.strip().splitlines()
    ]
    return re.compile(r"\s*\n".join(lines))
