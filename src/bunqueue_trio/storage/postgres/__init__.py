"""The PostgreSQL store: a queue in a database that others keep alive. Needs psycopg, and is imported for nobody else."""
