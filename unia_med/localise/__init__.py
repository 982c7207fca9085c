"""From activation maps to pseudo labels: no gradient, float32, whole batches."""
