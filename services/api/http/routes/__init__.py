"""Routes: paths, parameters and headers; the services behind them decide."""
