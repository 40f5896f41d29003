"""Layers of dependencies: each set of requirements is installed once, and kept on a volume."""
