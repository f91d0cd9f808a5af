"""Socket.IO over Engine.IO: its endpoint, sessions, namespaces, and the events of its clients."""
