"""Socket.IO 5 and Engine.IO 4, without I/O."""
