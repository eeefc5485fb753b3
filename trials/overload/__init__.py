"""What attacks cost the server and its other clients."""
