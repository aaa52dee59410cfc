"""The commands, a module for each command or family."""
