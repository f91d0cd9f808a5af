"""One client: who it is, what waits for it, what it is subscribed to."""
