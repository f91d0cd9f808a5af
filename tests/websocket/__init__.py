"""The WebSocket codec: bytes in, events out, and nothing else whatever the bytes."""
