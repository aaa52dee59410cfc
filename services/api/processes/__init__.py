"""The API as several processes behind one port, and their shared state."""
