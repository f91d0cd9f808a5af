"""The engine over Redis: logs in streams, spread by publish/subscribe."""
