"""Numbers in JSON, of which Python does not read all."""


def integer(text: str) -> int | str:
    """Return a number, or its text: one of more digits than Python reads (4,300) would take it long."""
    try:
        return int(text)
    except ValueError:
        return text
