"""What listens: one process, or several workers of one host."""
