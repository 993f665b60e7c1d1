"""Fixtures of the end-to-end clusters, for every test of the repository."""

pytest_plugins = ("e2e.fixtures",)
