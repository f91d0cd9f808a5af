"""The engine of several workers on one host: each is connected to the hub of the host, which has the logs."""
