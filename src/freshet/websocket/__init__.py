"""WebSocket without I/O: RFC 6455 and RFC 7692 as functions from bytes to events and back."""
