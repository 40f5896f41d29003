"""What a model is told of the tools: how to use them right. `{installed}` is filled in."""

from __future__ import annotations

INSTRUCTIONS = (
    "Runs Python code in sandboxes of a pgexec server. run_python runs a program once in a fresh "
    "sandbox and keeps nothing; run_in_session keeps variables and files from call to call."
)

RUN_PYTHON = """\
Run a Python program in a fresh, isolated sandbox and return what it prints.

- Only printed output comes back: the value of a last expression does not, so print() it.
- Nothing is kept: every call starts in an empty directory, without the variables and files of \
earlier calls. To build on earlier results use run_in_session.
- Installed: {installed} Name every other package that the code imports in `dependencies`; its \
first use takes some seconds.
- Plots: save them, for example plt.savefig("plot.png"); every image file that the program leaves \
comes back as an image. Do not call plt.show().
- Files: give inputs in `files`, and name outputs to get back in `collect`.
- An exception of the program is a normal result with its traceback: correct the code and call \
again. Very long output is shortened in its middle.\
"""

RUN_IN_SESSION = """\
Run Python code in a session: a living interpreter in an isolated sandbox, as in a notebook. \
Variables, imports, open files and the working directory stay from call to call.

- The first call has no session_id: it begins a session, and its result says the id. Pass this \
session_id in every later call to go on there.
- Printed output comes back, the value of the last expression, and every figure at plt.show() as \
an image.
- Installed: {installed} Name every other package in `dependencies` of the first call; later calls \
cannot add any.
- Files: give inputs in `files`. What the code writes stays in the session: read_file reads it, \
`collect` brings it along with this result. Their names count from the directory in which the \
session began, also after os.chdir().
- An exception leaves variables as they are: correct the code and call again. A call over its time \
limit is interrupted and keeps them, too; where the result says `restarted`, they are gone and the \
files are still there. Top-level await works.
- One call at a time in a session. It ends by itself some minutes after its last call; begin a new \
one then. Places are few: call end_session when you are done.\
"""

READ_FILE = """\
Read a file of a session, below the directory in which it began. A text comes in parts of up to \
20,000 characters: the result says the `offset` of the next part. An image comes as an image, any \
other file as a resource for the user. Of a file of many megabytes, print a part in run_in_session.\
"""

END_SESSION = """\
End a session, when no further call needs its variables and files, which are lost.\
"""
