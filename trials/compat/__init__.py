"""This server beside the original, bunqueue, while both run: what is asked of both, and how their answers differ."""
