"""The programs on the services' instance.

`start.sh`, `cloud.py` for its calls of AWS, and `parameters.py` for secrets in SSM.
"""
