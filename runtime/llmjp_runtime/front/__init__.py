"""The front model: Triton requests in, text out. Tokens come from an executor behind a protocol."""
