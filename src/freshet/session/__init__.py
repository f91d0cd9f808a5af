"""One client: who it is, its queue of frames, what it is subscribed to."""
