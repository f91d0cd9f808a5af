"""Who is subscribed to what in this process, and the fan-out."""
