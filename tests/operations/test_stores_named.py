"""A queue in a database, and commands that are given its URL: each says what it wants instead."""

import pytest

from tests.operations.processes import bunqueue


@pytest.mark.parametrize("store", ["mysql://x/y", "queue.db"])
@pytest.mark.parametrize("command", ["migrate", "cluster", "doctor", "config"])
def test_what_is_no_url_of_a_database_is_refused_in_the_same_words(command: str, store: str):
    refused = bunqueue(command, "--store", store)
    assert refused.code == 2
    assert refused.err == (
        "bunqueue-trio: --store=…: must be a URL such as postgres://user@host/database; a file is named by DATA_PATH\n"
    )


def test_doctor_takes_the_database_from_the_environment():
    assert "must be a URL such as" in bunqueue("doctor", env={"STORE": "queue.db"}).err
    assert "there is no such file" in bunqueue("doctor", "missing.db", env={"STORE": "queue.db"}).err


@pytest.mark.parametrize("command", [("backup", "to"), ("doctor",), ("shrink",)])
def test_a_database_is_no_file(command: tuple[str, ...]):
    refused = bunqueue(command[0], "postgres://user:secret@host/database", *command[1:])
    assert refused.code == 2
    assert "a queue in a database is no file" in refused.err
    assert "secret" not in refused.err


def test_a_default_that_is_a_rule_is_said():
    assert "default next to the API, on its port + 1" in " ".join(bunqueue("serve", "--help").out.split())
    assert "link_bind" in bunqueue("config").out
    assert "# default (LINK_BIND: next to the API, on its port + 1)" in bunqueue("config").out
