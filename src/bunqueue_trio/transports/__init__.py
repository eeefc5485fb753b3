"""Bytes of connections ↔ ``api``. Nothing in here knows what a command means, nor the engine or the store."""
