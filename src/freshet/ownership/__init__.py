"""Which node has what for itself, one at a time, and the way there for all others."""
