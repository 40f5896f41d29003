"""Pure decisions: recycle or destroy a container, serve a lease, start and keep containers."""
