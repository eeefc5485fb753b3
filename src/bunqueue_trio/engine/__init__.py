"""The queue itself: a pure state machine. No I/O, no clock, no randomness of its own."""
