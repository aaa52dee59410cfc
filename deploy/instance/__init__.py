"""What runs on the services' instance: `start.sh`, and `cloud.py` for what it asks of AWS."""
