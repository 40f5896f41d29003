"""The calls to the container engine, and the documents that describe containers to it."""
