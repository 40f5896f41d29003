"""Advice on the settings of the pool, from what a server has seen."""
