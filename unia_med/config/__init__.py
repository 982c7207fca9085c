"""Configuration: YAML to validated models."""
