"""Observing a cluster, for `llmjp status` and `llmjp doctor`."""
