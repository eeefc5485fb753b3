"""Bytes ↔ commands. Nothing in here knows the engine or the store; the front door is ``Core``."""
