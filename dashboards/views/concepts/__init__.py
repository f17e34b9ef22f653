"""Views of concepts: the model, one concept, decisions, evidence, labels."""
