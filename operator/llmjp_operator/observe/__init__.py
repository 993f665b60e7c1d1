"""Kubernetes objects as values: the cache of what watches have shown, and a snapshot of it."""
