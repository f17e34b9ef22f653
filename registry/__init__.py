"""The framework: declarations, plans, records and stores. It knows nothing of networks."""

from registry.quiet import end_quietly

end_quietly()  # before what takes a moment to be imported

import warnings

from lazy_loader import attach_stub

from registry.loaded import keep_loaded_texts

keep_loaded_texts()  # of stages and plug-ins, which import this first

# Sacred 0.8.7 imports pkg_resources, which says at every start that it will go.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
