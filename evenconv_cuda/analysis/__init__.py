"""What layers do to maps over depth: information erosion (arXiv 1903.08385), measured, printed and drawn."""

from .erosion import WEIGHTS, Erosion, compare, equal_weights, erosion, impulse_response, stack
from .images import digits, random_maps, read_images

__all__ = [
    "WEIGHTS",
    "Erosion",
    "compare",
    "digits",
    "equal_weights",
    "erosion",
    "impulse_response",
    "random_maps",
    "read_images",
    "stack",
]
