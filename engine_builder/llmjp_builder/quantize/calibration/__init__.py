"""What FP8's scales are made of: the largest activations of a model, over texts.

`calibrate` is the entry. The model is never in memory as a whole: all texts go through one decoder
layer after the other (`sweep`), so a model of any size needs one layer, one text, and a disk.
"""

from llmjp_builder.quantize.calibration.calibration import CalibrationResult, calibrate

__all__ = ["CalibrationResult", "calibrate"]
