"""Synthetic short-axis hearts: domain-randomised slices (`bank`), whole patients in ACDC layout (`dataset`)."""
