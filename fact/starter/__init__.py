"""What a project begins with: a look at what there is, and a declaration of the whole chain."""
