"""The calls of agents: claims, identity, reports and callbacks, and their SQL."""
