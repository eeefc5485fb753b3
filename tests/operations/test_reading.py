"""What a command of the command line costs before it does anything."""

import gc

import pytest

from bunqueue_trio.cli import reading


def test_the_collector_rests_while_modules_are_read_and_works_afterwards():
    with reading():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_after_a_module_that_cannot_be_read():
    with pytest.raises(ImportError), reading():
        raise ImportError
    assert gc.isenabled()
