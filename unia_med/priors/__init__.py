"""Anatomical priors: named label sources."""
