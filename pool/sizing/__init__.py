"""Pure decisions: recycle or destroy, whom to serve, how many to start and to keep."""
