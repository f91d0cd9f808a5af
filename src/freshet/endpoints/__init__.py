"""What hangs a dialect and a transport on a URL."""
