"""Numbers of an evaluation: confusion matrices, boundaries, calibration, intervals."""
