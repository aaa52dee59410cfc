"""Logs of containers: stored within bounds, read and followed."""
