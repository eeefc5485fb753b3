"""The vocabulary of the server: commands, replies, events and their JSON. No I/O, no time."""
