"""The vocabulary of the server: commands, replies, events and their JSON. No I/O, no time.

The one exception is ``address.py``, for clients: it reads two variables of the environment.
"""
