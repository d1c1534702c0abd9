"""Pareto fronts and hypervolumes, in numpy alone."""
