"""A small trained llm-jp-3-shaped model: its questions and answers, its tokenizer, its training."""
