"""`pgexec mcp`: a tool for agents, by the Model Context Protocol.

It is a client of a pgexec server and knows no other room than `pgexec.client`; it needs the
official SDK (the extra `pgexec[mcp]`). See `docs/agents.md` and `docs/adr/0015-agents.md`.
"""
