"""All that runs inside containers, and nothing else. Standard library only, CPython since 3.8."""
