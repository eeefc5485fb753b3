"""What the past of a schedule costs that has run very often."""
