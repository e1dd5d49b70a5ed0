"""Learning curves: errors from few labels to many, beside trees."""
