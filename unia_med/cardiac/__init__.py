"""All that is specific to hearts: cardiac indices, short-axis shape, synthetic hearts, anatomical priors."""
