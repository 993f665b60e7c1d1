"""Text to ids and back: prompts, chat templates, streaming detokenisation, stop strings.

Everything specific to a checkpoint is read from its tokenizer files.
"""
