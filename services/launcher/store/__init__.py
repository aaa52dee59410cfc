"""All SQL of the launcher, each statement beside the one function that runs it."""
