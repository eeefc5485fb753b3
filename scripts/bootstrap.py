"""Makes the checkout's `.venv` from the pinned requirements; uses the standard library only, and no network when nothing changed.

A script that needs the environment begins with `bootstrap.reexec()`; one that only needs its Python calls `bootstrap.ensure()`.
`python3 scripts/bootstrap.py` makes the environment and prints the path of its Python.
"""

from __future__ import annotations  # so that an older Python gets as far as being told

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
# Another Python's environment stands beside that of the checkout (check.py --python).
VENV = ROOT / os.environ.get("CHECKOUT_VENV", ".venv")
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "bootstrap.json"  # written last, removed first: while it is missing, nothing in VENV counts
LOCK = ROOT / ".venv.lock"
OLDEST = (3, 11)  # requires-python in pyproject.toml


def ensure(extra: str = "dev") -> Path:
    """Return the environment's Python, after installing requirements/<extra>.txt and the project if they are not as pinned.

    Costs a few milliseconds when everything is in place. Ends the process with one line when it cannot be done.
    """
    if sys.version_info < OLDEST:
        _fail(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    requirements = ROOT / "requirements" / f"{extra}.txt"
    if not requirements.is_file():
        _fail(f"there is no requirements/{extra}.txt")
    wanted = _wanted(requirements)
    if _installed() == wanted:
        return PYTHON
    with _locked():
        installed = _installed()  # another run may have done it while this one waited
        if installed != wanted:
            _install(requirements, wanted, installed)
    return PYTHON


def reexec(extra: str = "dev") -> None:
    """Go on in the environment: replaces this process by the same command under its Python, unless it runs there already."""
    before = _installed()
    python = ensure(extra)
    if Path(sys.prefix).resolve() == VENV and before == _installed():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [str(python), *sys.orig_argv[1:]])


def _wanted(requirements: Path) -> dict[str, str]:
    """Tell what the stamp of a complete, current environment says."""
    return {
        "root": str(ROOT),  # an environment that was copied or moved still points to where it came from
        "requirements": hashlib.sha256(requirements.read_bytes()).hexdigest(),
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
    }


def _installed() -> dict[str, str] | None:
    """Tell what the environment was made from; None when there is no complete one."""
    if not PYTHON.exists():  # also when the Python that it was made with is gone
        return None
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None
    return stamp


def _install(requirements: Path, wanted: dict[str, str], installed: dict[str, str] | None) -> None:
    if VENV.is_symlink():
        VENV.unlink()  # another checkout's environment stays as it is; this one gets its own
    STAMP.unlink(missing_ok=True)
    rebuild = installed is None or {**installed, "pyproject": ""} != {**wanted, "pyproject": ""}
    if rebuild:  # from nothing, so that no package stays behind that is no longer pinned
        if importlib.util.find_spec("ensurepip") is None:
            _fail(f"{sys.executable} has no ensurepip; install it (on Debian and Ubuntu: the package python3-venv)")
        count = requirements.read_text().count("==")
        _say(f"making {VENV.name} for this checkout (once; about a minute, and more where the network is slow)")
        # The one that the running environment was made with: its own may be the one that goes now.
        python = os.path.realpath(sys.executable)
        if VENV.exists():
            shutil.rmtree(VENV)
        _run([python, "-m", "venv", str(VENV)])
        _say(f"installing the {count} packages of requirements/{requirements.name}, each as it is pinned there")
        # All that is needed is listed: a pip before 23.3 would look for `coverage[toml]` beside the `coverage` that is pinned.
        _pip("--no-deps", "--require-hashes", "-r", str(requirements))
    else:
        _say("pyproject.toml has changed; installing the project again")
    if rebuild:
        _say("installing the project itself")
    _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    _say("installed")
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(wanted))
    fresh.replace(STAMP)


def _pip(*arguments: str) -> None:
    # -qq leaves only errors: a machine with several package indexes would print a warning for each package and index.
    _run([str(PYTHON), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> None:
    # What it prints goes to stderr: the only thing on stdout is the path that main() prints.
    code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    if code:
        _fail(f"`{' '.join(command)}` ended with {code}; run again when its cause is mended")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one process install at a time; the system gives the lock back however that process ends."""
    import fcntl  # not on every system, and only needed to install

    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another run to finish installing")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


def _fail(text: str) -> None:
    raise SystemExit(f"bootstrap: {text}")


if __name__ == "__main__":
    print(ensure())
