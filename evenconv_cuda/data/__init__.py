"""Image data sets, opened whole and checked, the loader that shares them out, and augmentation a batch at a time."""

from .augmentation import Augmentation
from .image_data import ImageData, MemoryImages
from .loading import loader
from .opening import open_data

__all__ = ["Augmentation", "ImageData", "MemoryImages", "loader", "open_data"]
