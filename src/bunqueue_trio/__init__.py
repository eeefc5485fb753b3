"""bunqueue-trio: a job-queue server that people trust with work they cannot lose."""

__version__ = "0.1.0"
