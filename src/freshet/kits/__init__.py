"""Rooms that are ready for use, and parts of runs: written as users write."""
