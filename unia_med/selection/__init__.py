"""Which cases and slices to annotate next: by the doubt of a model, and by difference from what is labelled."""
