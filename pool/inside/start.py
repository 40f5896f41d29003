"""Start the runner: every interpreter in a container imports this file as `sitecustomize`.

The first interpreter becomes the runner. Any other one, which a snippet has started, loads the
image's own `sitecustomize` instead, as it would without pgexec. So does a subinterpreter.

Runs inside the container: standard library only, any CPython since 3.8.
"""

import os
import sys

if "PGEXEC_RUNNER" in os.environ:
    if sys.implementation.name != "cpython":
        from pool.inside.protocol import Kind, encode

        refusal = "the image's python3 is %s, and pgexec runs code in CPython 3.8 and later only"
        os.write(1, encode(Kind.REFUSED, (refusal % sys.implementation.name).encode()))
        os._exit(0)

    import gc

    # Imports leave little to free. A collection would stop tracking tuples of simple objects,
    # which then could not become immortal. During a run it would make the kernel copy every page.
    gc.disable()
    from pool.inside import at_fork

    at_fork.import_threading()
    from pool.inside import runner

    runner.install()
else:
    if "PYTHONPATH" not in os.environ and sys.stdout:
        # A subinterpreter's output is to come when it is printed, as the main interpreter's does.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.path.remove(os.path.dirname(__file__))
    del sys.modules[__name__]
    import sitecustomize  # type: ignore[import-not-found] # noqa: F401 - its effect is all
