"""Show matplotlib's figures as a notebook does, without importing matplotlib.

When a cell imports matplotlib and neither it nor its environment has chosen a backend, the backend
is one of ours: Agg, whose `show` hands over the open figures as PNG, and closes them. It exists in
the session's interpreter only; programs that this one starts choose for themselves.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pool.inside.shown import Shown

BACKEND = "pgexec_figures"
_NAME = f"module://{BACKEND}"
_AGG = "matplotlib.backends.backend_agg"


def offer(shown: Shown) -> None:
    """Let matplotlib find the backend, and choose it; `shown` gets the figures."""
    sys.meta_path.insert(0, _FigureFinder(shown))
    if "matplotlib" in sys.modules:
        _choose(sys.modules["matplotlib"])
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and _chosen():
            pyplot.switch_backend(_NAME)


def show_open(shown: Shown) -> None:
    """Show the figures that the cell has left open, and close them."""
    if _in_use():
        _show(shown)


def close_open() -> None:
    """Close the figures that the cell has left open, without drawing them."""
    if _in_use():
        sys.modules["matplotlib.pyplot"].close("all")


def png_of(thing: Any) -> bytes | None:  # noqa: ANN401
    """Return the PNG of a figure that is not open, or `None` for every other object."""
    module: Any = sys.modules.get("matplotlib.figure")
    if module is None or not isinstance(thing, module.Figure):
        return None
    managers: Any = sys.modules.get("matplotlib._pylab_helpers")
    if managers is not None and _chosen():
        open_ones = [one.canvas.figure for one in managers.Gcf.get_all_fig_managers()]
        if any(one is thing for one in open_ones):
            return None  # it is shown at the end of the cell
    return _png(thing)


def _in_use() -> bool:
    return BACKEND in sys.modules and "matplotlib.pyplot" in sys.modules and _chosen()


def _chosen() -> bool:
    matplotlib: Any = sys.modules["matplotlib"]
    return bool(dict.get(matplotlib.rcParams, "backend") == _NAME)


def _choose(matplotlib: Any) -> None:  # noqa: ANN401
    """Choose the backend, unless something else has."""
    if os.environ.get("MPLBACKEND"):
        return
    with contextlib.suppress(Exception):
        if not isinstance(dict.get(matplotlib.rcParams, "backend"), str):
            matplotlib.rcParams["backend"] = _NAME


class _FigureFinder:
    """Finds the backend, and hears of matplotlib's import."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def find_spec(
        self,
        name: str,
        path: Any = None,  # noqa: ANN401
        target: object = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec of the backend, and of matplotlib, whose import then chooses it."""
        if name == BACKEND:
            return ModuleSpec(name, _Backend(self._shown))  # type: ignore[arg-type]
        if name != "matplotlib":
            return None
        spec = PathFinder.find_spec(name, path)
        loader: Any = spec and spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is not None:

            def exec_module(module: Any) -> None:  # noqa: ANN401
                with contextlib.suppress(AttributeError):
                    del loader.exec_module
                execute(module)
                _choose(module)

            with contextlib.suppress(AttributeError):
                loader.exec_module = exec_module
        return spec


class _Backend:
    """Loads the backend: all that Agg has, and a `show` of its own."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def create_module(self, spec: object) -> None:
        """Let the import make an ordinary module."""

    def exec_module(self, module: Any) -> None:  # noqa: ANN401
        """Fill the module."""
        backend_agg = importlib.import_module(_AGG)

        shown = self._shown
        public = {key: value for key, value in vars(backend_agg).items() if key[:2] != "__"}
        module.__dict__.update(public)

        def show(*_args: object, **_options: object) -> None:
            _show(shown)

        module.show = show


def _show(shown: Shown) -> None:
    managers: Any = sys.modules["matplotlib._pylab_helpers"]
    pyplot: Any = sys.modules["matplotlib.pyplot"]
    figures = [one.canvas.figure for one in managers.Gcf.get_all_fig_managers()]
    try:
        for figure in figures:
            data = _png(figure)
            if data is not None:
                shown.add("image/png", data)
    finally:
        if figures:
            pyplot.close("all")


def _png(figure: Any) -> bytes | None:  # noqa: ANN401
    """Return a figure as inline figures of notebooks are; `None` for one without content."""
    if not figure.axes and not figure.lines and not figure.texts and not figure.images:
        return None
    if not hasattr(figure.canvas, "print_png"):
        importlib.import_module(_AGG).FigureCanvasAgg(figure)
    data = io.BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")
    return data.getvalue()
