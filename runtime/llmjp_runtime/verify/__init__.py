"""A TensorRT-LLM checkpoint beside the Hugging Face model it was made of: are they the same?"""
