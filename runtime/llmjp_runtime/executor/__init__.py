"""Executors: what turns prompt ids into new ids. `protocol` is what the front model knows of them."""
