"""Tasks that the server owns, detached from who began them: they write a log that clients may join at any time."""
