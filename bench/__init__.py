"""Measurements: what Freshet costs, beside what others cost. `make bench`; the last results are in `RESULTS.md`."""
