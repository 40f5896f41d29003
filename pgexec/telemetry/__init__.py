"""The telemetry of the server: metrics and the log."""
