"""The launcher's offers with their prices, as it has published them; and the plan of a job."""
