"""Reads what evaluations wrote and sets it beside what the paper printed: statistics, tables, plots. Never a model."""
