"""All SQL of the reaper, each statement beside the one function that runs it."""
