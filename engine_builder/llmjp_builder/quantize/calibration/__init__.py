"""Calibration: finds the largest activations of a model over texts, for FP8's scales.

`calibrate` is the entry. The model is never in memory as a whole: all texts go through one decoder
layer after the other (`layerwise`), so a model of any size needs one layer, one text, and a disk.
"""

from llmjp_builder.quantize.calibration.calibration import CalibrationResult, calibrate

__all__ = ["CalibrationResult", "calibrate"]
