"""All that knows a heart: cardiac indices, the shape of a short-axis heart, synthetic hearts, anatomical priors."""
