"""The events and their envelope on the wire."""
