"""Scenarios on a real node: one scenario per file, each readable as documentation."""
