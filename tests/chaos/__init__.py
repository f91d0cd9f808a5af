"""Faults under load, with a ledger of what was published and what arrived: `make chaos`."""
