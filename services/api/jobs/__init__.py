"""The life of a job: model, decisions, endings, retry limits, costs, views and SQL."""
