"""Doors: processes that accept connections for the leader, the link between them, and a server that waits. They know no command."""
