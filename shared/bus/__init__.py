"""The bus: a port (`port`) and its adapters."""
