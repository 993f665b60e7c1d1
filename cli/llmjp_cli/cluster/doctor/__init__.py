"""`llmjp doctor`: checks of a cluster and of what models in it need."""
