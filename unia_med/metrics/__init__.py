"""Scores of segmentations against labels, in numpy and scipy only."""
