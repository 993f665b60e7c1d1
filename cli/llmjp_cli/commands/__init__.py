"""The commands of `llmjp`, one module each; nothing heavy is imported before one runs."""
