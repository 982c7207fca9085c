"""Recipes: several runs that feed each other."""
