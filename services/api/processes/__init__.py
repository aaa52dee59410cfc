"""The API as several processes behind one port, and what they share."""
