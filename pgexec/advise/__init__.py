"""Advice on the settings of the pool, from the figures of a server."""
