"""The engine over Redis: logs in streams, broadcast by publish/subscribe."""
