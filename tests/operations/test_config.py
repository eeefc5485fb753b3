"""Settings: where they come from, what is refused and how it is said."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.config import Bind, Settings, check_data_path, load, parse_bind
from bunqueue_trio.errors import StartupError
from tests.operations.processes import bunqueue


def test_flags_override_the_environment_and_the_environment_the_file(tmp_path: Path):
    file = tmp_path / "s.toml"
    file.write_text('http_port = 2\nlease_ms = 3\nauth_tokens = ["a", "b"]\nmetrics_auth = true\n')
    environ = {"HTTP_PORT": "1", "STALLS_MAX": "1", "LEASE_MS": ""}
    loaded = load(environ, file=file, flags={"http_port": "3", "lease_ms": None})
    settings, sources = loaded.settings, loaded.sources
    assert (settings.http_port, settings.lease_ms, settings.stalls_max) == (3, 3, 1)
    assert (settings.auth_tokens, settings.metrics_auth) == (("a", "b"), True)
    assert (sources["http_port"], sources["stalls_max"]) == ("--http-port", "STALLS_MAX")
    assert str(file) in sources["lease_ms"]
    assert sources["shutdown_grace_ms"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HTTP_PORT", "65536", "HTTP_PORT='65536': must be between 0 and 65535"),
        ("HTTP_PORT", "tcp://10.0.0.1:6790", "HTTP_PORT='tcp://10.0.0.1:6790': must be an integer; Kubernetes"),
        ("HOST", "127.0.0.1:7000", "HOST='127.0.0.1:7000': must be one address or name without a port; BIND"),
        ("HOST", "0.0.0.0,::", "HOST='0.0.0.0,::': must be one address"),
        ("HOST", "a b", "HOST='a b': must be an address or a name"),
        ("BIND", "http://0.0.0.0:6790", "BIND='http://0.0.0.0:6790': 'http://0.0.0.0:6790' is a URL"),
        ("AUTH_TOKENS", " , ", "AUTH_TOKENS=…: has nothing in it"),
        ("AUTH_TOKENS", " ", "AUTH_TOKENS=…: has nothing in it"),
        ("AUTH_TOKENS", "a\nb", "AUTH_TOKENS=…: a token has a character"),
        ("AUTH_TOKENS_FILE", "/no/such/file", "AUTH_TOKENS_FILE='/no/such/file': cannot be read: No such file"),
        ("AUTH_TOKENS_FILE", "/dev/null", "AUTH_TOKENS_FILE='/dev/null': has no token in it"),
        ("CORS_ALLOW_ORIGIN", "example.org", "CORS_ALLOW_ORIGIN='example.org': 'example.org' is no origin"),
        ("CORS_ALLOW_ORIGIN", "*.x", "CORS_ALLOW_ORIGIN='*.x': '*.x': browsers know no patterns"),
        (
            "CORS_ALLOW_ORIGIN",
            "https://a https://b",
            "CORS_ALLOW_ORIGIN='https://a https://b': 'https://a https://b': origins",
        ),
        ("CORS_ALLOW_ORIGIN", "https://a/path", "CORS_ALLOW_ORIGIN='https://a/path': 'https://a/path' is no origin"),
        ("CORS_ALLOW_ORIGIN", "https://a:x", "CORS_ALLOW_ORIGIN='https://a:x': 'https://a:x' has a port"),
        ("LEASE_MS", "5 parsecs", "LEASE_MS='5 parsecs': must be a time"),
        ("LEASE_MS", "Infinity", "LEASE_MS='Infinity': has a limit: at most 31536000000: the job of a worker"),
        ("LEASE_MS", "-1", "LEASE_MS='-1': must be between 1 and 31536000000"),
        (
            "RATE_LIMIT_MAX_REQUESTS",
            "infinite",
            "RATE_LIMIT_MAX_REQUESTS='infinite': must be an integer; Infinity is no limit",
        ),
        ("CORS_ALLOW_ORIGIN", "none", "CORS_ALLOW_ORIGIN='none': 'none' is no origin; leave it empty for none"),
        ("LEASE_MS", "366d", "LEASE_MS='366d': must be between 1 and 31536000000: the job of a worker"),
        ("BODY_MAX_BYTES", "10 bananas", "BODY_MAX_BYTES='10 bananas': must be a size"),
        ("RETENTION_AGE_MS", "0", "RETENTION_AGE_MS='0': must be at least 1: 0 could mean nothing or everything"),
        ("DATA_PATH", "a\0b", "DATA_PATH='a\\x00b': must not have a NUL in it"),
        ("HTTP_PORT", "--5", "HTTP_PORT='--5': must be an integer"),
        ("HTTP_PORT", "5.0", "HTTP_PORT='5.0': must be an integer"),
        ("METRICS_AUTH", "maybe", "METRICS_AUTH='maybe': must be true or false"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL='loud': must be one of debug, info, warning, error, critical"),
        ("BIND", "nowhere:x", "BIND='nowhere:x': 'nowhere:x' is not host:port"),
        ("TLS_CERT_FILE", "c.pem", "TLS_CERT_FILE='c.pem': TLS_KEY_FILE is needed as well"),
        ("TLS_KEY_FILE", "k.pem", "TLS_KEY_FILE='k.pem': TLS_CERT_FILE is needed as well"),
        ("LINK_TLS_CERT_FILE", "c.pem", "LINK_TLS_CERT_FILE='c.pem': LINK_TLS_KEY_FILE is needed as well"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(name: str, value: str, complaint: str):
    with pytest.raises(StartupError) as refused:
        load({name: value})
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("http_prot = 1", "unknown setting 'http_prot', did you mean 'http_port'?"),
        ("tcp_port = 1", "unknown setting 'tcp_port', did you mean 'http_port'?"),
        ("zzz = 1", "unknown setting 'zzz'$"),
        ("[server]\nhttp_port = 1", r"\[server\] is a section"),
        ("HTTP_PORT = 1\nhttp_port = 1", "http_port is set twice"),
        ("lease_ms = true", "must be an integer"),
        ("stalls_max = 1.5", "must be an integer"),
        ("http_port = ", "cannot be read"),
        ("http_port = true", "must be an integer"),
        ("data_path = 5", "must be a string"),
        ("auth_tokens = true", "must be a string, or a list of strings"),
        ("auth_tokens = [1234]", "must be a string, or a list of strings"),
        ("cors_allow_origin = true", "must be a string, or a list of strings"),
        ("ui_mask = 5", "must be a string, or a list of strings"),
        ("bind = 6790", "must be a string, or a list of strings"),
        ("bind = ['x:y']", "is not host:port"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, complaint: str):
    file = tmp_path / "s.toml"
    file.write_text(content)
    with pytest.raises(StartupError, match=complaint) as refused:
        load({}, file=file)
    assert str(file) in str(refused.value)


def test_a_directory_that_no_answer_could_name_is_refused():
    assert load({"BACKUP_DIR": "/bäckup"}).settings.backup_dir == "/bäckup"
    with pytest.raises(StartupError, match="has bytes that are no UTF-8"):
        load({"BACKUP_DIR": "/b\udcff"})


def test_a_flag_that_names_a_file_wins_over_a_database_of_the_environment():
    loaded = load({"STORE": "postgres://bq@host/queue"}, flags={"data_path": "queue.db"})
    assert (loaded.settings.store, loaded.settings.data_path) == ("", "queue.db")
    assert loaded.warnings == ("STORE is not used: --data-path names a file, and flags win",)
    there = load({"STORE": "postgres://bq@host/queue", "DATA_PATH": "queue.db"})
    assert (there.settings.store, there.warnings) == ("postgres://bq@host/queue", ())
    with pytest.raises(StartupError, match="exclude each other"):
        load({}, flags={"data_path": "queue.db", "store": "postgres://bq@host/queue"})


@pytest.mark.parametrize(
    ("flags", "environ", "listens", "warning"),
    [
        ({"http_port": "7"}, {}, "0.0.0.0:7", "is not used: --http-port says where to listen, and flags win"),
        ({"http_port": "7"}, {"BIND": ":9"}, "0.0.0.0:7", "BIND is not used: --http-port says where to listen"),
        ({}, {"HOST": "::1"}, "[::1]:6790", "is not used: HOST says where to listen, and the environment wins over"),
        ({"bind": ":9"}, {"HTTP_PORT": "7"}, "0.0.0.0:9", None),
        ({"bind": ":9", "http_port": "7"}, {}, "0.0.0.0:9", None),
        ({}, {}, "0.0.0.0:8", None),
    ],
)
def test_where_to_listen_is_what_the_strongest_place_says(
    tmp_path: Path, flags: dict[str, Any], environ: dict[str, str], listens: str, warning: str | None
):
    file = tmp_path / "s.toml"
    file.write_text('bind = "0.0.0.0:8"\nhttp_port = 6\n' if not environ.get("HOST") else 'bind = ":8"\n')
    loaded = load(environ, file=file, flags=flags)
    assert [str(bind) for bind in loaded.settings.binds] == [listens]
    assert (loaded.sources["bind"] == "default") == bool(warning)
    assert [warning in told for told in loaded.warnings] == [True] if warning else not loaded.warnings


def test_a_port_may_be_said_for_the_hosts_of_a_weaker_bind(tmp_path: Path):
    file = tmp_path / "s.toml"
    file.write_text('bind = "127.0.0.1,unix:/run/q.sock"')
    loaded = load({}, file=file, flags={"http_port": "7"})
    assert [str(bind) for bind in loaded.settings.binds] == ["127.0.0.1:7", "unix:/run/q.sock"]
    assert not loaded.warnings


def test_config_shows_no_bind_that_is_not_in_force(tmp_path: Path):
    (tmp_path / "s.toml").write_text('bind = ":8"')
    shown = bunqueue("config", "--config", str(tmp_path / "s.toml"), "--port", "7")
    told = tomllib.loads(shown.out)
    assert (told["bind"], told["http_port"]) == ([], 7)
    assert "bind in" in shown.err


def test_config_says_what_bind_stands_instead_of():
    shown = bunqueue("config", "--bind", "127.0.0.1:7").out
    assert re.findall(r"^(\w+) .*# not used: BIND is set", shown, re.MULTILINE) == ["host", "http_port"]
    assert "not used" not in bunqueue("config", "--bind", "127.0.0.1").out.split("http_port")[1]


def test_a_bad_secret_is_not_shown():
    f = next(f for f in fields(Settings) if f.name == "auth_tokens")
    assert f.metadata["secret"]


@pytest.mark.parametrize("off", ["", "Infinity", "none"])
def test_what_is_off_can_be_written_down(off: str):
    assert load({"RATE_LIMIT_MAX_REQUESTS": off}).settings.rate_limit_max_requests is None
    assert load({"TLS_CERT_FILE": ""}).settings.tls_cert_file is None


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("0.0.0.0:80", Bind("0.0.0.0", 80)),
        ("[::1]:0", Bind("::1", 0)),
        ("example.org:6790", Bind("example.org", 6790)),
        ("unix:/run/x.sock", Bind(path="/run/x.sock")),
    ],
)
def test_a_bind_is_read_and_written_alike(text: str, bind: Bind):
    assert parse_bind(text) == bind
    assert str(bind) == text


@pytest.mark.parametrize(
    "text",
    ["", "a b:80", "fd://3", "host:", "host:65536", "host:٣", "::1:80", "unix:x", "unix:/" + "x" * 107, "host:-1"],
)
def test_a_bad_bind_is_refused(text: str):
    with pytest.raises(ValueError, match=r"needs|is not|is a URL"):
        parse_bind(text)


@pytest.mark.parametrize(
    ("bind", "local"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/x", True), ("0.0.0.0:1", False)],
)
def test_loopback_and_unix_sockets_are_local(bind: str, local: bool):
    assert parse_bind(bind).is_local is local


def test_bind_replaces_host_and_port():
    assert load({"HOST": "h", "HTTP_PORT": "5"}).settings.binds == (Bind("h", 5),)
    both = load({"HOST": "h", "BIND": "127.0.0.1:1, unix:/x"}).settings.binds
    assert both == (Bind("127.0.0.1", 1), Bind(path="/x"))


@pytest.mark.slow
def test_config_shows_what_is_in_force_and_where_it_comes_from(tmp_path: Path):
    file = tmp_path / "s.toml"
    file.write_text("stalls_max = 7\n")
    env = {"AUTH_TOKENS": "first-secret,second-secret", "HTTP_PORT": "81"}
    done = bunqueue("config", "--config", str(file), "--lease-ms", "5", env=env)
    assert done.code == 0
    sources = dict(line.split("  # ") for line in map(_squeezed, done.out.splitlines()) if "  # " in line)
    assert sources["http_port = 81"] == "HTTP_PORT"
    assert sources["lease_ms = 5"] == "--lease-ms"
    assert str(file) in sources["stalls_max = 7"]
    assert sources["body_max_bytes = 10485760"] == "default (BODY_MAX_BYTES)"
    assert "# auth_tokens = 2 set, not shown" in done.out
    assert "first-secret" not in done.out
    assert "second-secret" not in done.out


def _squeezed(line: str) -> str:
    setting, _, source = line.rpartition("  # ")
    return f"{setting.rstrip()}  # {source}"


@pytest.mark.slow
def test_what_config_shows_is_a_file_that_config_takes(tmp_path: Path):
    file = tmp_path / "s.toml"
    file.write_text(bunqueue("config", env={"BIND": "127.0.0.1:1,unix:/x", "METRICS_AUTH": "1"}).out)
    shown: dict[str, Any] = tomllib.loads(file.read_text())
    assert shown["bind"] == ["127.0.0.1:1", "unix:/x"]
    again = load({}, file=file).settings
    assert (again.metrics_auth, again.bind, again.auth_tokens) == (True, ("127.0.0.1:1", "unix:/x"), ())


@pytest.mark.slow
def test_a_bad_setting_stops_the_start_with_one_line_and_code_2():
    done = bunqueue("serve", env={"HTTP_PORT": "many"})
    assert (done.code, done.out, done.err) == (2, "", "bunqueue-trio: HTTP_PORT='many': must be an integer\n")


@pytest.mark.slow
def test_a_bad_flag_stops_the_start_with_one_line_and_code_2():
    done = bunqueue("serve", "--stalls-max", "-2")
    assert (done.code, done.err) == (2, "bunqueue-trio: --stalls-max='-2': must be at least 0; Infinity is no limit\n")
    done = bunqueue("serve", "--no-such-thing")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.slow
def test_help_says_every_setting_and_how_it_ends():
    text = " ".join(bunqueue("serve", "--help").out.split())
    for f in fields(Settings):
        assert f"--{f.name.replace('_', '-')}" in text
        assert f"env {f.metadata['env']};" in text
        assert f.metadata["help"] in text
    for word in ("SIGTERM", "Exit codes", "--config", "Examples"):
        assert word in text


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (":memory:", "there is no store in memory"),
        ("file:/var/q.db", "is no place for a URI"),
        ("~/q.db", "~ is not expanded; write the whole path"),
        ("$HOME/q.db", "variables are not expanded; write the whole path"),
        (".", "is a directory; write the name of a file in it"),
        ("missing/q.db", "there is no directory missing; make it first"),
        ("dangling", "is a symbolic link to nothing"),
    ],
)
def test_a_data_path_that_is_hardly_meant_so_is_refused_and_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, complaint: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(StartupError) as refused:
        check_data_path(path)
    assert str(refused.value).startswith(f"DATA_PATH={path!r}: {complaint}")
    assert "\n" not in str(refused.value)
    assert check_data_path(f"{tmp_path}/~$:memory:") == tmp_path / "~$:memory:"
