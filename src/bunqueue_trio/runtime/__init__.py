"""The life of the server: time, tasks, waiting. Read ``tree.py`` first."""
