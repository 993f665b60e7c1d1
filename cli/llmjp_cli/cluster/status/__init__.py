"""`llmjp status`: observing one model, and its screen."""
