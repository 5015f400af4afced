"""Measurements: how fast the operators are, against what they replace."""
