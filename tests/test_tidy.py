"""The rules of the house that a reader would otherwise have to remember; each failure names the file and what to do."""

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bunqueue_trio import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "bunqueue_trio"
MODULES = sorted(path for top in (PACKAGE, ROOT / "trials", ROOT / "scripts") for path in top.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PINS = [ROOT / "requirements" / f"{name}.txt" for name in ("run", "dev", "build")]

LINES_MAX = 450  # about what a reader keeps in mind; beyond it there are two owners in one file
DOCSTRING = re.compile(r'(#!.*\n)?"""[^"\s]')
FOR_TOOLS = re.compile(r"#\s*(noqa|type:|fmt:|pragma)")
BESIDE = re.compile(rf"\S[^\S\n]*(?!{FOR_TOOLS.pattern})#")
PATH_SUFFIXES = {".py", ".md", ".toml", ".sql", ".txt", ".html"}

# In pieces, so that this file does not find itself.
INDEX_ADDRESS = re.compile(
    r"--(?:extra-)?index" + r"-url[ =]|--find" + r"-links[ =]|--trusted" + r"-host[ =]"
    r"|pypi" + r"\.org|pythonhosted" + r"\.org|registry\.npm" + r"js",
)
MACHINE_PATH = re.compile(r"(?<![\w.~-])(?:/(?:work|root)(?![\w-])|/home" + r"/)")


BANNED = {
    (" out", r"\bhand(?:s|ed|ing)?(?: \w+)? out\b"): "deliver",
    ("in vain", r"\bin vain\b"): "say what does not come of it",
    ("the begin", r"\bthe begin\b"): "the start",
    ("is a fact", r"\bis a fact\b(?! on)"): "is committed, or may be sent",
    ("may enter", r"\bmay enter\b"): "may be added",
    ("what was to be", r"\bwhat was to be\b"): "name it",
    ("so many", r"\bso many\b(?!(?: \w+)? that\b)"): "this many, how many, or the number's name",
    ("so long", r"\bso long\b(?!(?: \w+)? that\b)"): "this long, how long, or the number's name",
    (" told", r"\b(?:is|are|was|were|be|been) told\b"): "gets, is answered, or learns",
    ("poll", r"(?<!\()\blong[ -]poll(?:s|er|ers)?\b"): "waiting pull, as the glossary has it",
}
"""What a reader has to read twice → what to write instead. In code a name is read as its words: `is_told` is one of them.

The first of each pair is all that most files need be looked through for: an expression takes a hundred times as long.
"""

IN_WORDS = {".md", ".py", ".toml", ".html"}


def module_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tracked_files() -> list[Path]:
    """Everything that is, or with the next `git add` would be, in the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def findings(pattern: re.Pattern[str], files: list[Path], read: Callable[[Path], str] | None = None) -> list[str]:
    found = []
    for path in files:
        text = text_of(path)
        looked_at = read(path) if read else text
        # Line by line is slow, and mostly there is nothing.
        if pattern.search(looked_at):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
                for number, (line, as_read) in enumerate(zip(text.splitlines(), looked_at.splitlines(), strict=True), 1)
                if pattern.search(as_read)
            ]
    return found


@cache
def words_of(path: Path) -> str:
    return text_of(path).replace("_", " ").lower()


@cache
def text_of(path: Path) -> str:
    """What is in a file; nothing, if it is not a text."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode(errors="replace")


def test_each_module_is_of_a_size_to_read():
    lines = {module_name(path): len(path.read_text().splitlines()) for path in (*MODULES, *TESTS)}
    long = {name: n for name, n in lines.items() if n > LINES_MAX}
    assert not long, f"{long} lines: find the second owner in each and give it a file of its own"


def test_each_helper_of_the_tests_has_a_name_of_its_own():
    """Who looks for a helper by its name finds one file."""
    names = Counter(path.name for path in TESTS if not path.name.startswith("test_"))
    assert {name for name, times in names.items() if times > 1} <= {"conftest.py", "__init__.py"}


def test_each_module_says_what_it_owns():
    silent = [module_name(path) for path in MODULES if not DOCSTRING.match(path.read_text())]
    assert not silent, f"{silent}: the docstring says what the file owns and refuses"


def test_no_module_has_a_bare_except():
    """A bare `except:` also catches Trio's Cancelled."""
    bare = [
        f"{module_name(path)}:{node.lineno}"
        for path in MODULES
        if "except:" in path.read_text()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not bare, f"{bare}: name what is expected"


def test_comments_stand_on_lines_of_their_own():
    """At the end of a line they are cut to its rest, and few of them are sentences."""
    beside = [
        f"{module_name(path)}:{token.start[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        # To take a file apart costs more than all else here.
        if BESIDE.search(path.read_text())
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip() and not FOR_TOOLS.match(token.string)
    ]
    assert not beside, f"{beside}"


REACHED = re.compile(r"server\.(engine|store)\b")
SERVE_CLIENTS = [
    path for name in ("transports", "ui", "api", "pages") for path in sorted((PACKAGE / name).rglob("*.py"))
]


def test_modules_that_serve_clients_ask_the_server_and_not_its_engine_or_store():
    """What they hold is read by `Server.statistics()`; what changes it goes through `Core`."""
    reached = [
        f"{module_name(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in SERVE_CLIENTS
        if REACHED.search(path.read_text())
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and re.search(r"server\.(engine|store)$", ast.unparse(node))
    ]
    assert not reached, f"{reached}: take it from the server's statistics()"


def table_paths(text: str, title: str) -> list[str]:
    """The paths in backticks in the table under the heading ``title``."""
    heading = re.escape(title)
    section = re.search(rf"^#+ {heading}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f'ARCHITECTURE.md needs a heading "{title}"'
    rows = re.findall(r"^\s*\|.*$", section[1], re.MULTILINE)
    words = [span.split()[0] for row in rows for span in re.findall(r"`([^`]+)`", row) if span.strip()]
    return [word for word in words if not word.startswith("/") and ("/" in word or Path(word).suffix in PATH_SUFFIXES)]


@pytest.mark.parametrize("title", ["Where is it?", "Where is it tested?"])
def test_table_of_the_architecture_names_files_that_exist(title: str):
    architecture = ROOT / "ARCHITECTURE.md"
    if not architecture.exists():
        pytest.skip("ARCHITECTURE.md is not written yet")
    paths = table_paths(architecture.read_text(), title)
    assert paths, f'the table under "{title}" names no file'
    missing = [path for path in paths if not any((base / path).exists() for base in (PACKAGE, ROOT))]
    assert not missing, f"ARCHITECTURE.md sends the reader to files that do not exist: {missing}"


def test_the_architecture_leads_to_every_file_of_the_source():
    """A new file has a row of "Where is it?", or is in a folder that has one."""
    named = {
        path.removeprefix("src/bunqueue_trio/")
        for path in re.findall(r"`([^`\s]+)`", (ROOT / "ARCHITECTURE.md").read_text())
    }
    folders = tuple(path for path in named if path.endswith("/"))
    modules = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert [path for path in sorted(modules) if path not in named and not path.startswith(folders)] == []


@pytest.mark.parametrize(("phrase", "better"), BANNED.items(), ids=[in_it for in_it, _ in BANNED])
def test_sources_and_documents_are_in_plain_words(phrase: tuple[str, str], better: str):
    in_it, pattern = phrase
    texts = [path for path in tracked_files() if path.suffix in IN_WORDS and path != Path(__file__).resolve()]
    found = findings(re.compile(pattern), [path for path in texts if in_it in words_of(path)], words_of)
    assert not found, f"{found}: write {better!r}"


def test_no_package_index_address_is_tracked():
    assert not findings(INDEX_ADDRESS, tracked_files())


def test_no_path_of_one_machine_is_tracked():
    assert not findings(MACHINE_PATH, tracked_files())


@pytest.mark.parametrize("path", PINS, ids=module_name)
def test_pins_name_no_place(path: Path):
    """A pin is a version and its hashes; where it comes from is the business of the machine that installs it."""
    assert not findings(re.compile(r"\w+://|(?<![\w./-])/(?:opt|tmp)\b"), [path])


def test_pins_fulfil_the_project_file():
    """Every dependency in pyproject.toml is pinned within its bound; `make pins` brings the two together."""
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", PINS[0].read_text(), re.MULTILINE))
    wanted = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    assert wanted
    assert [str(need) for need in wanted if not need.specifier.contains(pinned.get(need.name, "0"))] == []


def test_what_builds_the_project_is_pinned():
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", PINS[2].read_text(), re.MULTILINE))
    wanted = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    ]
    assert wanted
    assert [str(need) for need in wanted if not need.specifier.contains(pinned.get(need.name, "0"))] == []


def test_pins_are_the_same_for_development():
    run, dev, build = (dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE)) for path in PINS)
    assert run
    assert {name: dev.get(name) for name in run} == run
    assert {name: dev.get(name, version) for name, version in build.items()} == build


def test_readme_shows_every_subcommand():
    from bunqueue_trio.cli import COMMANDS  # here: a broken command line must not take the other rules with it

    readme = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"`{name}`" not in readme] == []


def test_the_package_and_its_metadata_are_of_one_version():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
