"""Serving of an engine artefact on Triton: front model, executors, model repository, server."""
