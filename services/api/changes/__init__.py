"""Changes of jobs in the order of their commits, and who follows them."""
