"""All SQL of the API, a module a group of tables; each statement beside its function."""
