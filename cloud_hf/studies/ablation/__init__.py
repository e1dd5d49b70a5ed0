"""What makes a model of heat capacities better, one change at a time."""
