"""Settings as people write them: units, words, aliases; the same from a variable, a flag and a file."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.config import (
    NO_LIMIT,
    Bind,
    NamedToken,
    Settings,
    load,
    parse_bind,
    parse_duration_ms,
    parse_typed_ms,
)
from bunqueue_trio.errors import StartupError
from tests.operations.processes import bunqueue, serving

UNLIMITED = ("Infinity", "infinity", "inf", "unlimited", "off", "none", "-1")
TIMES = {
    "5m": 300_000, "30d": 2_592_000_000, "1.5h": 5_400_000, "500ms": 500, "10s": 10_000, "1h30m": 5_400_000,
    "1000": 1000, "1 w": 604_800_000, "0.0015s": 2, "1e3": 1000, "1_000": 1000,
}  # fmt: skip
SIZES = {
    "10MB": 10**7, "10MiB": 10 * 2**20, "10M": 10 * 2**20, "10485760": 10 * 2**20, "2000 kB": 2_000_000, "2048k": 2**21,
    "0.01GB": 10**7, "1e7": 10**7,
}  # fmt: skip
YES, NO = ("true", "1", "y", "T", "yes", "ON", "enabled"), ("false", "0", "n", "F", "no", "Off", "disabled")


def spellings() -> list[tuple[str, str, Any]]:
    """Every setting with every way to write a value of its kind."""
    rows: list[tuple[str, str, Any]] = []
    for f in fields(Settings):
        meta, name = f.metadata, f.name
        if name.endswith("_ms"):
            rows += [(name, text, value) for text, value in TIMES.items()]
        elif name.endswith("_bytes"):
            rows += [(name, text, value) for text, value in SIZES.items()]
        elif f.type is bool:
            rows += [(name, text, True) for text in YES] + [(name, text, False) for text in NO]
        elif f.type in {int, int | None}:
            rows += [(name, text, 1000) for text in ("1000", " 1000 ", "1e3", "1_000")]
        if meta["unlimited"] is not None or meta["zero_is_unlimited"]:
            rows += [(name, text, meta["unlimited"]) for text in UNLIMITED]
        if meta["choices"]:
            rows += [(name, text, choice) for choice in meta["choices"] for text in (choice, choice.upper())]
    rows += [("log_level", text, "warning") for text in ("warn", "WARN", "Warning")]
    rows += [("log_level", "fatal", "critical")]
    rows += [("log_format", text, "human") for text in ("text", "plain", "console")]
    rows += [("rate_limit_max_requests", "0", None), ("rate_limit_max_requests", "1" + "0" * 18, 10**18)]
    rows += [("stalls_max", "1" + "0" * 18, NO_LIMIT), ("retention_completed_max", "0", 0)]
    rows += [
        ("host", "[::]", "::"),
        ("host", "*", "0.0.0.0"),
        ("host", "::1", "::1"),
        ("host", " localhost ", "localhost"),
    ]
    rows += [
        ("cors_allow_origin", text, ("https://example.org",))
        for text in ("https://example.org", "https://example.org/", "HTTPS://Example.ORG", "https://example.org:443")
    ]
    rows += [("cors_allow_origin", "http://a:81,null, *", ("http://a:81", "null", "*"))]
    return rows


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "text", "value"), spellings())
def test_a_value_means_the_same_wherever_it_is_written(tmp_path: Path, name: str, text: str, value: Any):
    file = tmp_path / "s.toml"
    file.write_text(f"{name} = {json.dumps(text)}\n")
    written = [load({name.upper(): text}), load({}, flags={name: text}), load({}, file=file)]
    assert [getattr(loaded.settings, name) for loaded in written] == [value] * 3


@pytest.mark.parametrize("f", fields(Settings), ids=lambda f: f.name)
@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_value_is_not_set(tmp_path: Path, f: Any, blank: str):
    if f.metadata["secret"] and blank:
        pytest.skip("blanks in the place of a token would let everybody in")
    file = tmp_path / "s.toml"
    file.write_text(f"{f.name} = {json.dumps(blank)}\n")
    loaded = load({f.metadata["env"]: blank}, file=file, flags={f.name: blank})
    assert (loaded.settings, loaded.sources[f.name]) == (Settings(), "default")


@pytest.mark.parametrize("f", fields(Settings), ids=lambda f: f.name)
def test_a_setting_has_one_stem(f: Any):
    assert f.metadata["env"] == f.name.upper()


@pytest.mark.parametrize("f", [f for f in fields(Settings) if f.metadata["old"]], ids=lambda f: f.name)
def test_variables_and_old_names_stand_in_a_file_too(tmp_path: Path, f: Any):
    file = tmp_path / "s.toml"
    for key in (f.metadata["old"], f.metadata["env"], f.name.replace("_", "-")):
        file.write_text(f"{key} = 7\n")
        assert getattr(load({}, file=file).settings, f.name) == 7


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        (":6790", Bind("0.0.0.0", 6790)), ("6790", Bind("0.0.0.0", 6790)), ("*:80", Bind("0.0.0.0", 80)),
        ("localhost", Bind("localhost", 5)), ("[::]", Bind("::", 5)), ("/run/x.sock", Bind(path="/run/x.sock")),
        ("unix:///x.sock", Bind(path="/x.sock")),
    ],
)  # fmt: skip
def test_an_address_is_written_in_many_ways(text: str, bind: Bind):
    assert parse_bind(text, 5) == bind
    assert load({"BIND": text, "HTTP_PORT": "5"}).settings.binds == (bind,)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HTTP_PROT": "1"}, "HTTP_PROT is not read, did you mean HTTP_PORT?"),
        ({"LOG_LEVL": "1"}, "LOG_LEVL is not read, did you mean LOG_LEVEL?"),
        ({"AUTH_TOKENSS": "1"}, "AUTH_TOKENSS is not read, did you mean AUTH_TOKENS?"),
        ({"DATA_PETH": "1"}, "DATA_PETH is not read, did you mean DATA_PATH?"),
        ({"TCP_PORT": "1"}, "TCP_PORT is not read here, the setting is called HTTP_PORT"),
        ({"BUNQUEUE_DATA_PATH": "x"}, "BUNQUEUE_DATA_PATH is not read here, the setting is called DATA_PATH"),
        ({"AUTH_TOKEN": "x"}, "AUTH_TOKEN is not read here, the setting is called AUTH_TOKENS"),
        ({"BUNQUEUE_TOKEN": "x"}, "BUNQUEUE_TOKEN is what clients send; what the server asks for is AUTH_TOKENS"),
        ({"AUTH_TOKENS": '"x"'}, "a token of AUTH_TOKENS begins or ends with a quote, which clients must send too"),
        ({"BODY_MAX_BYTES": "300MB"}, "BODY_MAX_BYTES is more than BUFFERS_MAX_BYTES: the largest bodies never fit"),
        (
            {"BODY_MAX_BYTES": "300MB", "BUFFERS_MAX_BYTES": "1GB"},
            "BODY_MAX_BYTES is more than 256 MB, and clients in Python take no larger message: none of them can get such a job",
        ),
        ({"AUTH_TOKENS": "a b"}, "a token of AUTH_TOKENS has a blank in it; commas separate tokens"),
    ],
)
def test_what_was_nearly_meant_for_us_is_warned_of(env: dict[str, str], said: str):
    assert load(env).warnings == (said,)


def test_the_environment_of_others_is_not_spoken_of():
    others = {"HTTPS_PORT": "1", "POST": "1", "PATH": "x", "HTTP_PROXY": "x", "LOG_LEVL": "", "AUTH_TOKENS": "ok"}
    assert load(others).warnings == ()


def test_tokens_come_from_a_file_without_comments_and_blanks(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text("# people\n  one \n\nname,with,commas\n # more\nboth\n")
    file.chmod(0o600)
    loaded = load({"AUTH_TOKENS_FILE": str(file), "AUTH_TOKENS": "both"})
    assert loaded.settings.auth_tokens == ("both", "one", "name,with,commas")
    assert loaded.warnings == ()
    file.chmod(0o644)
    said = f"AUTH_TOKENS_FILE={str(file)!r} may be read by everybody on this machine"
    assert load({"AUTH_TOKENS_FILE": str(file)}).warnings == (said,)
    file.write_bytes(b"\xff")
    with pytest.raises(StartupError, match="is no text"):
        load({"AUTH_TOKENS_FILE": str(file)})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("ann admin", "line 1: must be a token, or a name, a role and a token"),
        ("ok\n\n# x\nann admin s3cret more", "line 4: must be a token, or a name, a role and a token"),
        ("ann s3cret admin", "line 1: its second word must be a role: read, work or admin"),
        ("ann Admin s3cret", "line 1: its second word must be a role: read, work or admin"),
        ("127.0.0.1 read s3cret", "line 1: its name must begin with a letter and have at most 64 letters, digits and _.@- in it"),
        (f"{'a' * 65} read s3cret", "line 1: its name must begin with a letter and have at most 64 letters, digits and _.@- in it"),
        ("ann read s3cr\xe9t", "line 1: a token has a character that not every client can send"),
        ("s3cr\xe9t", "line 1: a token has a character that not every client can send"),
        ("ann read s3cret\nann work s3cret", "line 2: this token is there already, with another name or role"),
        ("ann read s3cret\nbob read s3cret", "line 2: this token is there already, with another name or role"),
        ("s3cret\nbob admin s3cret", "line 2: this token is there already, with another name or role"),
        ("bob admin both", "line 1: this token is in AUTH_TOKENS too, where it may do everything"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_token_stops_the_start_and_shows_no_secret(tmp_path: Path, lines: str, said: str):
    file = tmp_path / "tokens"
    file.write_text(lines, encoding="utf-8")
    with pytest.raises(StartupError) as caught:
        load({"AUTH_TOKENS_FILE": str(file), "AUTH_TOKENS": "both"})
    assert str(caught.value).startswith(f"AUTH_TOKENS_FILE={str(file)!r}: {said}")
    assert "s3c" not in str(caught.value)


def test_a_token_of_a_file_may_have_a_name_and_a_role(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text("ann admin one\nann admin one\n bob\tread  two\nbob read three\nfour\nfour\n")
    file.chmod(0o600)
    loaded = load({"AUTH_TOKENS_FILE": str(file), "AUTH_TOKENS": "five"})
    tokens = loaded.settings.auth_tokens
    assert tokens == ("five", "one", "two", "three", "four")
    named = {token: (token.name, token.role) for token in tokens if isinstance(token, NamedToken)}
    assert named == {"one": ("ann", "admin"), "two": ("bob", "read"), "three": ("bob", "read")}
    assert loaded.warnings == ()


@pytest.mark.slow
def test_config_and_serve_refuse_a_file_of_tokens_in_the_same_words(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text("ann may-not s3cret\n")
    env = {"AUTH_TOKENS_FILE": str(file)}
    config, serve = (bunqueue(command, env=env) for command in ("config", "serve"))
    assert (config.code, config.out, config.err) == (serve.code, serve.out, serve.err)
    assert config.code == 2
    assert config.err.endswith(": line 1: its second word must be a role: read, work or admin\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "flags"),
    [
        ({"HTTP_PORT": "many"}, ()), ({"HOST": "no.such.host.invalid"}, ()), ({"AUTH_TOKENS": ","}, ()),
        ({"TLS_CERT_FILE": "/dev/null", "TLS_KEY_FILE": "/dev/null"}, ()), ({}, ("--bind", "http://x")),
        ({}, ("--express=perhaps",)), ({"CORS_ALLOW_ORIGIN": "x"}, ()), ({}, ("--config", "/no/such/file")),
    ],
)  # fmt: skip
def test_config_refuses_what_serve_refuses_in_the_same_words(env: dict[str, str], flags: tuple[str, ...]):
    config, serve = (bunqueue(command, *flags, env=env) for command in ("config", "serve"))
    assert (config.code, config.err) == (serve.code, serve.err)
    assert (config.code, config.out, config.err.count("\n")) == (2, "", 1)


@pytest.mark.slow
def test_serve_takes_what_config_takes_and_says_what_is_odd(tmp_path: Path):
    env = {"RATE_LIMIT_MAX_REQUESTS": "unlimited", "LEASE_MS": "5m", "TCP_PORT": "1", "RETENTION_DEAD_MAX": "Infinity"}
    flags = ("--no-express", "--metrics-auth", "--grace-ms", "2s", "--auth-token", "t")
    done = bunqueue("config", *flags, env=env)
    assert done.code == 0
    for line in ("express = false", "metrics_auth = true", "shutdown_grace_ms = 2000", "lease_ms = 300000"):
        assert line in done.out
    assert 'retention_dead_max = "Infinity"' in done.out
    assert done.err == "warning: TCP_PORT is not read here, the setting is called HTTP_PORT\n"
    with serving(tmp_path, *flags, env=env, command=("start",)) as running:
        running.wait_logged("TCP_PORT is not read here")
        with running.client() as client:
            assert client.get("/prometheus").status_code == 401


@pytest.mark.slow
def test_help_shows_groups_and_whole_sentences():
    text = bunqueue("serve", "--help").out
    for group in ("Listening:", "Security:", "Delivery:", "Retention:", "Limits:"):
        assert f"\n{group}\n" in text
    assert "..." not in bunqueue("--help").out.replace("[ARGS]...", "")


@pytest.mark.parametrize(("text", "ms"), [("0", 0), ("0.0", 0), ("5ms", 5), (" 1h30m ", 5_400_000), ("1.5s", 1500)])
def test_a_time_that_somebody_types_has_a_unit(text: str, ms: int):
    assert parse_typed_ms(text) == parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["5", " 30 ", "1e3", "1_000", "1.5"])
def test_a_number_alone_may_be_meant_as_seconds_or_not(text: str):
    with pytest.raises(ValueError, match=rf"^needs a unit: {text.strip()}ms or {text.strip()}s\?$"):
        parse_typed_ms(text)
