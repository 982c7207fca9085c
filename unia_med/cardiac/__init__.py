"""Cardiac indices of labelled short-axis stacks: volumes, ejection fraction, mass, wall thickness. Without torch."""
