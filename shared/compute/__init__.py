"""Compute: a port (`port`) and its adapters, one package each."""
