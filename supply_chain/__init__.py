"""What docker-job is made of: base images, packages, and their known vulnerabilities."""
