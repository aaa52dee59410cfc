"""The HTTP face: paths, statuses and headers; what happens behind them is in the desks."""
