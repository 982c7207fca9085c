"""Looks at a data set before training: what is wrong with it, what its labels can tell, and what would help."""
