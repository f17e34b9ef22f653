"""Images and networks in, labelled datasets out: faithful concept traces (FaCT, NeurIPS 2025).

The names are listed in ``__init__.pyi``, typed; each is imported when it is first used.
"""

from lazy_loader import attach_stub as _attach_stub

__getattr__, __dir__, __all__ = _attach_stub(__name__, __file__)
