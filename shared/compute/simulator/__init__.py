"""`sim://`: a simulated cloud for tests, benchmarks and simulation."""
