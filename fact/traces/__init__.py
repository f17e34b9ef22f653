"""How much each concept is there and gives to a logit, where it is, and pictures of it."""
