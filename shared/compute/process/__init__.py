"""`process://`: an instance is an agent process on this machine."""
