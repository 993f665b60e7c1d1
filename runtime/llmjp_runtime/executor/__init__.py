"""Executors turn prompt ids into new ids. The front model knows their `protocol` only."""
