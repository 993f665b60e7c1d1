"""The executor `tensorrt`: NVIDIA's C++ model beside the front model in the same Triton."""
