"""A stand-in for NVIDIA's C++ backend `tensorrtllm`, for machines that do not have it.

`model.py` is a backend written in Python; it is run by Triton alone.
"""

POISON = 3
"""A prompt of this id alone is answered with an error."""
