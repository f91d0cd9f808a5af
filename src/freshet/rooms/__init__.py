"""Durable actors behind channels, one of each in the cluster: their hooks run one after the other."""
