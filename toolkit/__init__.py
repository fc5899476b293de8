"""What every process shares, and every process that is not the server."""
