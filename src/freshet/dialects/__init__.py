"""Client protocols, each from frames to commands and from events to frames, without I/O."""
