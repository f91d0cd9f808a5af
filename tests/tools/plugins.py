"""The pytest that a user has: without the plugins of the tests' own environment, which take a second to import."""

USERS = {"PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:langsmith_plugin -p no:schemathesis"}
"""For the environment of a process. What comes with Freshet and with what its pages tell one to install stays."""
