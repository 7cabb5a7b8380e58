"""Sliding-window evaluation, exact metrics and reports."""
