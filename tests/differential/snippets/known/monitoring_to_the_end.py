# since 3.12
# What decides whether to leave at once runs as an `atexit` callback written in Python. Tracers
# and profilers are suspended around it; `sys.monitoring` has no switch that shows nothing.
import os
import sys

monitoring = sys.monitoring
monitoring.use_tool_id(monitoring.DEBUGGER_ID, "mine")
monitoring.register_callback(
    monitoring.DEBUGGER_ID,
    monitoring.events.PY_START,
    lambda code, offset: os.write(1, code.co_qualname.encode() + b"\n"),
)
monitoring.set_events(monitoring.DEBUGGER_ID, monitoring.events.PY_START)
