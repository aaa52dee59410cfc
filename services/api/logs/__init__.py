"""What containers print: stored within bounds, read and followed."""
