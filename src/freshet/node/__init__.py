"""One process: its parts, and how it talks to the others."""
