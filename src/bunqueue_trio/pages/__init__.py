"""What the server says of itself: probes, statistics, metrics, the OpenAPI description. It changes no job."""
