"""Durable Streams, `/v1/stream/{channel}`: a channel's log as an append-only stream over plain HTTP."""
