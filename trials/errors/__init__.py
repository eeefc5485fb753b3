"""How well dead letters are grouped by their error: real errors, provoked in the programs that are here."""
