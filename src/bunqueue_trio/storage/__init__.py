"""The disk: what a batch is, the SQLite store, and its in-memory twin. Nobody else knows SQL."""
