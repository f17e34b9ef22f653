"""Data sets of images, array files and vocabularies, and how they are read."""
