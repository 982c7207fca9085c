"""Loss functions. Each gives an exact zero, still attached to the graph, when nothing is labelled."""
