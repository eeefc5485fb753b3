"""The vocabulary of the server: commands, replies, events, their JSON and their routes. No I/O, no time.

The one exception is ``address.py``, for clients: it reads two variables of the environment.
"""
