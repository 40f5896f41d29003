"""Layers of dependencies: made once for each set of requirements, kept on a volume."""
