"""A cluster of real processes on a real database, whatever becomes of them: nothing answered is lost, and nothing is done twice."""
