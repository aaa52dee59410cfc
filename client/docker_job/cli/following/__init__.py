"""One job, followed to its end: its log, its phases as lines, its exit code."""
