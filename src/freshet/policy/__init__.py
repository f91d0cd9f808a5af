"""What may run: tokens, rights, origins."""
