"""What is asked of the container engine, and the documents that containers are made from."""
