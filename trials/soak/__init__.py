"""What grows over hours."""
