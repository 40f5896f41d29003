"""Tells how the server is doing: metrics and the log."""
