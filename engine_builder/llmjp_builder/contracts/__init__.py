"""Errors, and the JSON values by which the parts meet. Standard library only."""
