"""Answers in words, tables, templates, JSON."""
