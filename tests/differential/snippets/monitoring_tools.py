import sys

if sys.version_info >= (3, 12):
    m = sys.monitoring
    print([m.get_tool(i) for i in range(6)])
    for i in range(6):
        m.use_tool_id(i, f"tool {i}")
        m.set_events(i, m.events.PY_START)
        m.register_callback(i, m.events.PY_START, lambda code, offset, i=i: print(i, code.co_name))

    def f():
        pass

    f()
    for i in range(6):
        m.set_events(i, 0)
        m.free_tool_id(i)
