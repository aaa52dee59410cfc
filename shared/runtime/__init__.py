"""Running a service: its loops, its process, sweep passes and readiness."""
