"""Log lines, and texts of other people made fit for a terminal.

What only shows texts must not wait for all that writes lines: the start of a command is as long as its imports.
"""
