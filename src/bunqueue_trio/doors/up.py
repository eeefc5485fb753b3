"""The first word of a door. It stands alone: ``start.py`` says it before anything else is read."""

UP = b"up"
"""What a door says that ends with its leader, and wants its sockets."""
