"""Decisions about a model, made from a snapshot. Pure; renders no object."""
