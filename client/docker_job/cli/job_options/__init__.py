"""The options that describe a job, and the document that they make."""
