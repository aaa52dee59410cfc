"""The programs on the services' instance: `start.sh`, and `cloud.py` for its calls of AWS."""
