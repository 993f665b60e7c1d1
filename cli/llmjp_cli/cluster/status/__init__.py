"""`llmjp status`: what is observed of a model, and its screen."""
