"""What workers count, and the port from which Prometheus reads it."""
