"""Serves the service over HTTP: routes, bodies, answers, events, the page."""
