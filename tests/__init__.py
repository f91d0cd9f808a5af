"""The tests: the same tree as `src/freshet`, one sentence about behaviour per test."""
