"""The executor `torch`: our own, over the checkpoint that `llmjp convert` writes."""
