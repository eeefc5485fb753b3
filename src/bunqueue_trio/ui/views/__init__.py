"""The screens, one file for each theme; ``table.py`` says which path leads where."""
