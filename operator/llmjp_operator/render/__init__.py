"""Kubernetes objects of a model, rendered by pure functions: same input, same object.

Objects read back as they were applied (`observe.managed_fields`): defaults inside lists and maps
that we own as a whole are written out, and quantities are in the API server's spelling.
"""
