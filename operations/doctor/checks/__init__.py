"""The areas that are checked: the API, the database and broker, this machine's engine."""
