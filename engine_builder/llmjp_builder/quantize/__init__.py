"""FP8: what calibration found, where it comes from, and Hugging Face checkpoints made with it."""
