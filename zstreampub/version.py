"""The version, here alone."""

__version__ = "0.3.0"
