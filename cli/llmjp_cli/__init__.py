"""The `llmjp` command. Thin: a part is imported only by the command that uses it."""
