"""The jobs that a command acts on, and acting on several."""
