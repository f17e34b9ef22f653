"""Evaluators: labelled datasets in, scores out; they import no network and read no image."""

from lazy_loader import attach_stub as _attach_stub

__getattr__, __dir__, __all__ = _attach_stub(__name__, __file__)  # names: __init__.pyi
