"""End a snippet's interpreter at once if its finalisation could show nothing.

The finalisation of an interpreter takes 2 to 5 ms, and the client waits for it. Mostly nothing
is left that would print, write a file or change the exit status. If that is certain, the child
leaves by `os._exit`; else it leaves in the ordinary way. Examples: after `print(1)` the child
leaves at once. After `f = open("a", "w"); f.write("x")` at the top of the script it does not:
the finalisation flushes and closes that file.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import sys
import warnings
from gc import get_objects
from itertools import compress, starmap
from opcode import opmap
from os import _exit, close, getpid
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from sys import _getframe
from types import BuiltinFunctionType, CodeType, FrameType, ModuleType
from typing import Any, Callable
from weakref import CallableProxyType, ProxyType, ref

from pool.inside.callbacks import ctypes
from pool.inside.child import FAREWELL, NAME
from pool.inside.protocol import MAX_NAME_BYTES

try:
    from _ctypes import CFuncPtr

    _libc = ctypes.CDLL(None)
    # Looked up before the fork: a function of C that comes later counts as the snippet's.
    prctl: Callable[..., int] | None = _libc.prctl
    fflush: Callable[..., int] | None = _libc.fflush
    _OF_C: tuple[type, ...] = (ctypes.CDLL, CFuncPtr)
except (ImportError, OSError, AttributeError):
    prctl, fflush, _OF_C = None, None, ()

# This module runs after the snippet, which may have replaced builtins: so it uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_EXCEPTHOOK = sys.excepthook
_pack_farewell: Any = FAREWELL.pack_into
_pack_name_size: Any = NAME.pack_into
_MONITORING_TOOL = 4
_RETURNS = {opmap.get("RETURN_VALUE"), opmap.get("RETURN_CONST")}
_MANY_OBJECTS = 20_000
_HEAP_TYPE = 1 << 9
_COLLECTED = 1 << 14

_WATCHED = (type, ref, ModuleType)
_WITH_HIDDEN_ENDINGS = (ProxyType, CallableProxyType, *_OF_C)
_UNNAMED = ("builtins", "__main__")
"""The modules whose exceptions the interpreter prints without them."""
_SUBINTERPRETERS = ("_interpreters", "_xxsubinterpreters")

# These read attributes without asking the class: a class of the snippet's may print when asked.
_mro: Any = type.__dict__["__mro__"].__get__
_class_attributes: Any = type.__dict__["__dict__"].__get__
_class_module: Any = type.__dict__["__module__"].__get__
_class_name: Any = type.__dict__["__qualname__"].__get__
_class_flags: Any = type.__dict__["__flags__"].__get__
_weakref_callback: Any = ref.__dict__["__callback__"].__get__
_module_attributes: Any = vars(ModuleType)["__dict__"].__get__

_runs: list[Run] = []
"""The next run. Empty in a child, in which only the `atexit` callbacks own the run."""
_own: set[int] = set()
"""The `id` of each object that `register` or, on its behalf, `atexit` has made."""


def register() -> None:
    """Register `finish` as the last callback at exit, and suspend tracing and profiling around it.

    `atexit` calls the first callback last. All callbacks but `finish` are functions of C that
    only functions of C call, so no tracer sees them.
    """
    gc.freeze()  # hides all older objects, so that `_own` gets only those made here
    run = Run()
    _runs.append(run)
    set_profile: Any = sys.setprofile
    set_trace: Any = sys.settrace
    ignored: list[None] = []
    atexit.register(ignored.extend, map(set_profile, filter(callable, run.profilers)))
    atexit.register(ignored.extend, map(set_trace, filter(callable, run.tracers)))
    atexit.register(finish, run)
    atexit.register(set_profile, None)
    atexit.register(set_trace, None)
    atexit.register(run.profilers.extend, starmap(sys.getprofile, [()]))
    atexit.register(run.tracers.extend, starmap(sys.gettrace, [()]))
    _own.update(map(id, gc.get_objects()))
    gc.unfreeze()


def prepare() -> None:
    """Note in PID 1 the state of the interpreter before any snippet."""
    run = _runs[0]
    run.teardown = Teardown()
    run.stdin, run.stdout, run.stderr = sys.stdin, sys.stdout, sys.stderr


def warm_up() -> None:
    """Make the checks of `finish` once, so that the memory pages for them are there."""
    run = _runs[0]
    run.status()
    run.is_traced()
    run.streams_are_untouched()
    run.teardown.shows()


def look_at_new_classes() -> None:
    """Have the next run leave slowly if a class that is not frozen yet hides its endings."""
    teardown = _runs[0].teardown
    kinds: Any = (one for one in get_objects() if isinstance(one, type))
    teardown.inscrutable = teardown.inscrutable or any(map(_hides_its_endings, kinds))


def own_objects() -> set[int]:
    """Return the `id` of each object that must stay mortal (`immortal`).

    The `atexit` callbacks hold the run, the run holds the script's frame, and the frame holds
    the script's globals. If one of these objects were immortal, the interpreter would never
    finalise the globals: a `__del__` of the snippet's would not run, and an open file would not
    be flushed. The set has the run, its parts, and the containers in which `atexit` keeps its
    callbacks.
    """
    return _own.union(map(id, gc.get_referents(*_runs)))


def begin(script: str) -> Run:
    """Take the run out of `_runs`, begin it for the path `script`, and return it."""
    run = _runs.pop()
    run.begin(script)
    return run


def finish(run: Run) -> None:
    """End the process at once if the interpreter's finalisation would show nothing.

    This is the last `atexit` callback; the interpreter has joined the threads before. Returns if
    anything is uncertain: the interpreter then finalises itself.
    """
    if _getframe().f_back is not None:
        return  # the script itself has called it, and goes on
    try:
        if hasattr(sys, "last_value"):
            run.name_exception()
        status = run.status()
        if status is None or run.is_traced() or not run.streams_are_untouched():
            return
        if run.teardown.shows():
            return
        run.stdout.flush()
        run.stderr.flush()
        if fflush is not None:
            fflush(None)
        run.say_farewell(status)
    except BaseException:  # noqa: BLE001 - the ordinary exit meets the same error, and shows it
        return
    _exit(status)


class Run:
    """The facts by which `finish` knows how the script ended.

    Only the `atexit` callbacks refer to it. If anything else held the script's frame, its globals
    or its streams, the interpreter would not finalise them.
    """

    def __init__(self) -> None:
        self.main: dict[str, Any] = {}
        self.names: list[str] = []
        self.pid = 0
        self.farewell: Any = None
        self.script = ""
        self.stdin: Any = None
        self.stdout: Any = None
        self.stderr: Any = None
        self.teardown: Teardown
        self.frame: FrameType | None = None
        self.uncertain = False
        self.tracers: list[object] = []
        self.profilers: list[object] = []

    def say_farewell(self, status: int) -> None:
        """Write the last words for PID 1, then close the output streams, which wakes PID 1."""
        if getpid() != self.pid:
            return  # a fork of the script: its end is not the end of the run
        peak_kib = max(getrusage(RUSAGE_SELF).ru_maxrss, getrusage(RUSAGE_CHILDREN).ru_maxrss)
        _pack_farewell(self.farewell, 0, 1, status, peak_kib)
        close(1)
        close(2)

    def name_exception(self) -> None:
        """Tell PID 1 the class of the exception that ended the script.

        This does not ask for the message: to format it could run code of the snippet a second time.
        The server finds the message in the interpreter's output.
        """
        trace: Any = sys.last_traceback
        if getpid() != self.pid or not (trace is None or self._is_script(trace.tb_frame)):
            return  # a fork of the script, or not its exception: `code.interact` sets one, too
        kind: Any = sys.last_type
        module, name = _class_module(kind), _class_name(kind)
        if type(module) is str and type(name) is str:
            named = name if module in _UNNAMED else module + "." + name
            data = named.encode("utf-8", "replace")[:MAX_NAME_BYTES]
            _pack_name_size(self.farewell, FAREWELL.size, len(data))
            begin = FAREWELL.size + NAME.size
            self.farewell[begin : begin + len(data)] = data

    def begin(self, script: str) -> None:
        """Make a new `__main__`; from CPython 3.12 on, also watch for the script's frame."""
        self.script = script
        self.pid = getpid()
        self.main = new_main()
        self.names = list(self.main)
        self.teardown.begin()
        if sys.version_info >= (3, 12):
            self._watch_for_frame(script)

    def read(self, code: bytearray) -> None:
        """Set `uncertain` if the source has a name by which a script could feign its end.

        Such a script leaves in the ordinary way, even if it only mentions the name.
        """
        self.uncertain = b"__cached__" in code or b"last_traceback" in code

    def _watch_for_frame(self, script: str) -> None:
        """Keep the script's frame when the script starts, and stop to watch at that moment."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        started = monitoring.events.PY_START

        def on_start(code: CodeType, _offset: int) -> None:
            if code.co_filename == script and code.co_name == "<module>":
                monitoring.set_events(_MONITORING_TOOL, 0)
                monitoring.register_callback(_MONITORING_TOOL, started, None)
                monitoring.free_tool_id(_MONITORING_TOOL)
                self.frame = _getframe(1)

        monitoring.use_tool_id(_MONITORING_TOOL, "pgexec")
        monitoring.register_callback(_MONITORING_TOOL, started, on_start)
        monitoring.set_events(_MONITORING_TOOL, started)

    def status(self) -> int | None:
        """Return the exit status if it is certain: 0, or 1 after an uncaught exception; else None.

        The interpreter deletes `__file__` and `__cached__` from `__main__` when the script has
        ended. Before 3.12 it does not delete them after a SystemExit, whose status only the
        interpreter knows. Examples: None after `sys.exit(3)`, 1 after `1 / 0`.
        """
        main = self.main
        if self.uncertain or "__file__" in main or "__cached__" in main:
            return None
        if not all(name in main for name in self.names):
            return None
        if not hasattr(sys, "last_value"):
            return 0 if sys.version_info < (3, 12) or self._has_returned() else None
        trace: Any = sys.last_traceback
        frame = trace.tb_frame
        died = self._is_script(frame) and frame.f_lasti == trace.tb_lasti
        kind: Any = sys.last_type
        if died and sys.excepthook is _EXCEPTHOOK:
            return None if issubclass(kind, (KeyboardInterrupt, SystemExit)) else 1
        return None

    def _is_script(self, frame: FrameType) -> bool:
        if sys.version_info >= (3, 12):
            return frame is self.frame
        code = frame.f_code
        own = code.co_name == "<module>" and code.co_filename == self.script
        return own and frame.f_back is None

    def _has_returned(self) -> bool:
        """Return True if the last instruction of the script's own frame was a return."""
        frame = self.frame
        return frame is not None and frame.f_code.co_code[frame.f_lasti] in _RETURNS

    def streams_are_untouched(self) -> bool:
        """Return True if the streams are the interpreter's, with their own `close` and `flush`."""
        streams = self.stdin, self.stdout, self.stderr
        if list(map(id, (sys.stdin, sys.stdout, sys.stderr))) != list(map(id, streams)):
            return False
        parts = [part for one in streams for part in (one, one.buffer, one.buffer.raw)]
        return not any("close" in vars(part) or "flush" in vars(part) for part in parts)

    def is_traced(self) -> bool:
        """Return True if a tracer or a profiler would see the finalisation."""
        return any(tracer is not None for tracer in self.tracers + self.profilers)


class Teardown:
    """Knows whether the finalisation of the snippet's objects could show anything."""

    def __init__(self) -> None:
        self.harmless: set[int] = set()
        for kind in set(map(type, get_objects())):
            changeable = _class_flags(kind) & _HEAP_TYPE
            if not changeable and not issubclass(kind, _WATCHED) and not _has_finalizer(kind):
                self.harmless.add(id(kind))
        # The operator, who pre-imports a package, answers for its code of C (ADR 8).
        self.trusted = {name.partition(".")[0] for name in sys.modules}
        self.inscrutable = not self.trusted.isdisjoint(_SUBINTERPRETERS) or any(
            map(_hides_its_endings, _all_classes())
        )
        self.filters = list(map(id, warnings.filters))
        self.marker: list[object] = []

    def begin(self) -> None:
        """Make an object that the collector tracks.

        If it is missing later, the snippet has called `gc.freeze()`, which hides all objects.
        """
        self.marker = [object()]

    def shows(self) -> bool:
        """Return True if a finaliser, a callback of a weak reference or foreign code would run."""
        objects = get_objects()
        if len(objects) > _MANY_OBJECTS or self.inscrutable:
            return True
        if gc.callbacks or gc.garbage or gc.get_debug():
            return True
        if list(map(id, warnings.filters)) != self.filters:
            return True  # an object that the collector does not track may raise a ResourceWarning
        kinds = list(map(type, objects))
        ids = list(map(id, kinds))  # not the classes: a metaclass may define __hash__ and __eq__
        watched = set()
        for key, kind in dict(zip(ids, kinds)).items():
            if key not in self.harmless:
                if _has_finalizer(kind) or issubclass(kind, _WITH_HIDDEN_ENDINGS):
                    return True
                if issubclass(kind, _WATCHED):
                    watched.add(key)
        shows = map(self._ends_visibly, compress(objects, map(watched.__contains__, ids)))
        return any(shows) or id(self.marker) not in map(id, objects)

    def _ends_visibly(self, thing: object) -> bool:
        """Return True if the end of a class, a weak reference or a module could show."""
        kind = type(thing)
        if issubclass(kind, type):
            # If the collector does not track the instances of a class, some may exist unseen.
            return not _class_flags(thing) & _COLLECTED and _has_finalizer(thing)  # type: ignore[arg-type]
        if issubclass(kind, ref):
            callback = _weakref_callback(thing)
            return callback is not None and not _cleans_abc_cache(callback)
        return self._is_foreign(thing)

    def _is_foreign(self, module: object) -> bool:
        """Return True if `module` makes subinterpreters, or is of C and not trusted."""
        if not issubclass(type(module), ModuleType):
            return False
        attributes = _module_attributes(module)
        name, path = attributes.get("__name__"), attributes.get("__file__")
        if type(path) is not str or not path.endswith(".so") or "/lib-dynload/" in path:
            return name in _SUBINTERPRETERS
        return type(name) is not str or name.partition(".")[0] not in self.trusted


def new_main() -> dict[str, Any]:
    """Replace `__main__`, which is frozen, and return the new module's attributes.

    At exit the collector does not look into a frozen module: its objects would not be finalised.
    """
    old = sys.modules["__main__"]
    new = sys.modules["__main__"] = ModuleType("__main__")
    new.__dict__.update(old.__dict__)
    return new.__dict__


def _has_finalizer(kind: type) -> bool:
    return any("__del__" in _class_attributes(base) for base in _mro(kind))


def _all_classes() -> set[type]:
    found: set[type] = set()
    new = {object}
    while new:
        found |= new
        new = {sub for one in new for sub in type.__subclasses__(one)} - found
    return found


def _hides_its_endings(kind: type) -> bool:
    """Return True if `kind` has a finaliser and the collector does not track its instances."""
    if _class_flags(kind) & _COLLECTED or kind.__module__ in sys.builtin_module_names:
        return False
    return _has_finalizer(kind)


def _cleans_abc_cache(callback: object) -> bool:
    return (
        type(callback) is BuiltinFunctionType
        and callback.__name__ == "_destroy"
        and type(callback.__self__) is ref
    )
