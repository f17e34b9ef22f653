"""Names for concepts, chosen by metrics, and their consensus."""
