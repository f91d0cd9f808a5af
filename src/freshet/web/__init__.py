"""Freshet's URLs."""
