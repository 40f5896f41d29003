import sqlite3

c = sqlite3.connect("db")
c.execute("create table t (x)")
c.commit()
c.set_trace_callback(print)
c.execute("insert into t values (1)")
