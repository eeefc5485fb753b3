"""How long a test waits for what never comes."""

PATIENCE_S = 60.0
"""For what hangs: nothing that is waited for takes a second on a quiet machine. `tests/test_patience.py` holds that no limit is shorter."""
