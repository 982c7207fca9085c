"""The unia-med command."""
