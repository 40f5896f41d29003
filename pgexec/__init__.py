"""A server that runs code snippets in warm containers."""

__version__ = "0.2.0"
