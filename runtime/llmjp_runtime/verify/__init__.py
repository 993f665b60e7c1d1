"""Comparison of a TensorRT-LLM checkpoint with the Hugging Face model it was made from."""
