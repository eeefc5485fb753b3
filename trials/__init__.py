"""Programs that try a real server: how fast it is, and what it keeps when it is killed, attacked or left alone for hours."""
