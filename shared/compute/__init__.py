"""Compute: a port (`port`) and its adapters, one module each."""
