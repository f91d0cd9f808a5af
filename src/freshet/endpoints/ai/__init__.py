"""Doors for the clients of AI streams: each speaks to the runs of a channel."""
