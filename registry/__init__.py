"""The framework: declarations, plans, records and stores. It knows nothing of networks."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
