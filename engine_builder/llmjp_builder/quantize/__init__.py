"""FP8 quantisation: calibration, the choice of amax, and unified Hugging Face checkpoints."""
