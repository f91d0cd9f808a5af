"""Freshet with the frameworks that its users have: written on the public names alone."""
