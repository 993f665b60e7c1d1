"""The executor `pytorch`: TensorRT-LLM's LLM API, inside the front model's process."""
