"""APIs of peers, so that their clients work unchanged: each module translates one of them.

A translation turns a peer's request into the fields of `POST /run`, and that one's answer into the
peer's. It knows nothing of HTTP, settings or the pool.
"""
