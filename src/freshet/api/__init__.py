"""The server API: what back ends in any language call."""
