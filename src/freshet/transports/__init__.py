"""What feeds a session and drains its outbox: the only code that touches the network."""
