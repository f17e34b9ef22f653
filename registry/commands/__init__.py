"""The commands of ``factbook``; :mod:`registry.cli` imports each when it is called."""
